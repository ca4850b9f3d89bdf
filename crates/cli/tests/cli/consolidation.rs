//! Consolidation by an agent: asked by a task, checked strictly, merged once all is archived.

use crate::door::{Door, lines, number, on_both, texts, word};
use serde_json::{Value, json};

on_both!(
    an_agent_puts_memories_together_and_is_told_what_was_wrong,
    nobody_is_asked_where_nothing_new_is_alike,
    an_archive_that_cannot_be_written_is_not_tried_without_end,
);

const DISK: [&str; 3] = [
    "build failed since the disk of the runner is full",
    "the disk of the runner is full and the upload stopped",
    "the tests need a redis",
];

/// A line of a script that answers with this object, as a model would: a text around it.
fn answers(object: &Value) -> String {
    let said = Value::from(format!("Here it is:\n{object}\nThat is all."));
    format!("cat <<'EOF'\n{{\"quorate\":\"result\",\"value\":{said}}}\nEOF\n")
}

fn team(door: &Door) {
    let text = "The runner's disk fills up.";
    let set = |ids: [i64; 2]| json!({ "merge": [{ "ids": ids, "kind": "pattern", "text": text }] });
    door.write(
        "quorate.toml",
        "[health]\nretry_after = \"100ms\"\n[server]\nlisten = \"127.0.0.1:0\"\n[memory]\nconsolidate = \"judge\"\n\
         [agents.judge]\ncommand = [\"sh\", \"judge.sh\"]\n",
    );
    let (wrong, right) = (answers(&set([1, 99])), answers(&set([1, 2])));
    door.write(
        "judge.sh",
        format!("cat >> asked.txt\nif [ \"$QUORATE_ATTEMPT\" = 1 ]; then\n{wrong}else\n{right}fi\n"),
    );
    for text in DISK {
        door.ok(&["remember", "--agent", "ada", "--kind", "episode", text]);
    }
}

fn an_agent_puts_memories_together_and_is_told_what_was_wrong(door: Door) {
    team(&door);
    let node = door.start(&["up"]);
    door.eventually("the judge is there", |door| {
        let agents = door.json(&["agent", "list"]);
        agents.as_array()?.iter().any(|agent| agent["name"] == "judge").then_some(())
    });
    let task = door.json(&["consolidate"])["task_id"].clone();
    let merged = door.events("memory.merged", 1);
    assert_eq!((&merged[0]["data"]["count"], &merged[0]["agent"]), (&json!(2), &json!("judge")));
    let hits = door.json(&["recall", "disk runner", "--kind", "pattern"]);
    assert_eq!((&hits[0]["text"], &hits[0]["count"]), (&json!("The runner's disk fills up."), &json!(2)));
    assert_eq!(door.json(&["recall", "upload"]), json!([]));
    let asked = std::fs::read_to_string(door.path().join("asked.txt")).expect("it was asked");
    assert!(asked.contains("99 is none of the notes") && !asked.contains("redis"), "{asked}");
    let archive = door.path().join(".quorate").join(word(&merged[0]["data"]["archive"]));
    let kept = lines(&std::fs::read_to_string(&archive).expect("an archive"));
    assert_eq!(kept.iter().map(|memory| word(&memory["text"])).collect::<Vec<_>>(), DISK[..2]);
    let shown = door.json(&["task", "show", &number(&task)]);
    assert_eq!((&shown["state"], &shown["attempt"]), (&json!("completed"), &json!(2)));
    door.fails(7, &["consolidate"]);
    drop(node);
}

fn nobody_is_asked_where_nothing_new_is_alike(door: Door) {
    door.ok(&["remember", "--agent", "ada", DISK[0]]);
    door.fails(2, &["consolidate"]);
    door.ok(&["remember", "--agent", "ada", DISK[2]]);
    door.fails(7, &["consolidate", "--agent", "ada"]);
    assert_eq!(door.json(&["task", "list"]), json!([]));
    door.ok(&["remember", "--agent", "ada", DISK[1]]);
    door.fails(5, &["consolidate", "--agent", "adda"]);
    let output = door.run(&["consolidate", "--agent", "ada"]);
    assert!(texts(&output).0.contains("task 1 asks ada about 2 memories in 1 groups"), "{output:?}");
    door.fails(7, &["consolidate", "--agent", "ada"]);
    door.ok(&["remember", "--agent", "ada", "no space left: the disk of the runner is full"]);
    let error = door.fails(3, &["consolidate", "--agent", "ada"]);
    assert!(word(&error["message"]).contains("task 1 consolidates already"), "{error}");
}

fn an_archive_that_cannot_be_written_is_not_tried_without_end(door: Door) {
    team(&door);
    let node = door.start(&["up"]);
    door.eventually("the judge is there", |door| {
        let agents = door.json(&["agent", "list"]);
        agents.as_array()?.iter().any(|agent| agent["name"] == "judge").then_some(())
    });
    let archive = door.path().join(".quorate/archive");
    std::fs::write(&archive, "a file stands in the way").expect("written");
    let task = number(&door.json(&["consolidate"])["task_id"]);
    door.events("task.released", 1);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let rounds = lines(&door.ok(&["events", "--kind", "task.released", "--json"])).len();
    assert!(rounds < 5, "{rounds} rounds in 3 s");
    let shown = door.ok(&["task", "show", &task]);
    assert!(shown.contains("cannot write the archive"), "it says why it waits: {shown}");
    std::fs::remove_file(&archive).expect("removed");
    door.events("memory.merged", 1);
    assert_eq!(word(&door.json(&["task", "show", &task])["state"]), "completed");
    drop(node);
}
