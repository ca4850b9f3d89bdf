//! What the hooks and the guard of `quorate init --claude` do in real sessions.

use crate::desk::{Desk, words_of};
use crate::door::word;
use quorate_testkit::model::{Say, Turn};
use serde_json::{Value, json};

fn change(file: &str) -> Value {
    json!({ "file_path": file, "old_string": "one", "new_string": "two" })
}

#[test]
fn an_edit_of_what_another_has_claimed_is_refused_and_the_model_learns_who_has_it() {
    let desk = Desk::new();
    let door = &desk.team.door;
    let (held, free) = (desk.file("src/a.rs"), desk.file("docs/a.md"));
    for file in [&held, &free] {
        std::fs::create_dir_all(std::path::Path::new(file).parent().expect("a folder")).expect("made");
        std::fs::write(file, "one\n").expect("the file is written");
    }
    door.ok(&["claim", "src/**", "--agent", "beta", "--ttl", "10m"]);
    let read = |file: &str| Say::Call("Read".into(), json!({ "file_path": file }));
    desk.model.set([
        Turn::default().and(read(&held)).and(read(&free)),
        Turn::call("Edit", change(&held)),
        Turn::call("Edit", change(&free))
            .expect("src/a.rs, held (as src/**) by beta until 20")
            .expect("--to beta"),
        Turn::text("Half of it is done."),
    ]);
    let answer = desk.asks(&["Change both."]);
    assert_eq!(answer["result"], "Half of it is done.", "{answer}");
    let now = |file: &str| std::fs::read_to_string(file).expect("it is there");
    assert_eq!((now(&held).as_str(), now(&free).as_str()), ("one\n", "two\n"));
    let refused = door.events("claim.refused", 1);
    assert_eq!(
        (refused.len(), word(&refused[0]["agent"]), word(&refused[0]["resource"])),
        (1, "claude-s1", "src/a.rs")
    );
    desk.model.end();
}

#[test]
fn a_session_that_is_resumed_or_compacted_gets_its_context_back() {
    let desk = Desk::new();
    let door = &desk.team.door;
    door.ok(&["task", "add", "count the sheep", "--prompt", "in the meadow"]);
    let known = "Your context was lost or cut; what the team's ledger knows";
    desk.model.set([
        Turn::text("I am here."),
        Turn::text("I am here again.").expect(known).expect("count the sheep"),
        Turn::text("<summary>They said hello.</summary>").expect("Still there?"),
        Turn::text("I go on.").expect("They said hello.").expect(known),
    ]);
    let session = word(&desk.asks(&["Hello."])["session_id"]).to_owned();
    desk.asks(&["Still there?", "--resume", &session]);
    desk.asks(&["/compact", "--resume", &session]);
    desk.asks(&["And now?", "--resume", &session]);
    let asked = desk.model.end();
    assert!(!words_of(&asked[0].body).contains(known), "nothing was lost, and no run goes on");
    let sources: Vec<Value> =
        door.events("context.restored", 4).iter().map(|event| event["data"]["source"].clone()).collect();
    assert_eq!(sources, ["resume", "resume", "compact", "resume"]);
    let saved = door.json(&["checkpoint", "list", "--agent", "claude-s1"]);
    assert_eq!(saved[0]["state"]["saved"], "before a compaction", "{saved}");
}
