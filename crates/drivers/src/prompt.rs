//! What an agent is told: its role, its task, what it needs to know, and how to finish.
//!
//! Here lives the making of that text from the task document. It reads nothing else, and its size is bounded: each part
//! that is too long is cut, with a note that says so.

use crate::say::cut;
use serde_json::Value;

/// The largest role, in bytes.
pub const ROLE_MAX: usize = 32 << 10;
/// The largest text of the task itself, in bytes.
const TASK_MAX: usize = 64 << 10;
/// The largest result of one task that this one needs, and of all of them, in bytes.
const NEED_MAX: usize = 8 << 10;
const NEEDS_MAX: usize = 32 << 10;
/// Earlier attempts that are told of, the latest, and how much of the end of each one's output, in bytes.
const ATTEMPTS_MAX: usize = 3;
const OUTPUT_MAX: usize = 2 << 10;
/// Claims of others that are told of, and the longest name, in bytes.
const CLAIMS_MAX: usize = 50;
const CLAIM_MAX: usize = 200;

/// How the last line of a message begins that says that the task cannot be done.
pub(crate) const FAILED: &str = "FAILED:";

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Who it is: for the system prompt, where there is one.
    pub role: String,
    /// What it is to do now.
    pub task: String,
}

impl Prompt {
    /// Makes it from a task document and the text of the agent's role; `has_tools` if it has those of our MCP server.
    pub fn new(document: &Value, role: Option<&str>, has_tools: bool) -> Prompt {
        let parts = [
            heading(document),
            needs(document),
            earlier(document),
            held(document),
            finish(document, has_tools),
        ];
        let task = parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n");
        Prompt { role: who(document, role), task: format!("{task}\n") }
    }

    /// Returns it as one text, for an agent that has no system prompt of its own.
    pub fn whole(&self) -> String {
        format!("{}\n\n{}", self.role, self.task)
    }
}

fn who(document: &Value, role: Option<&str>) -> String {
    let name = document["agent"].as_str().unwrap_or("an agent");
    let team = format!(
        "You are `{name}`, a member of a team that works side by side in one folder. Nobody is there to answer \
         questions: decide yourself, and say what you decided."
    );
    match role.map(str::trim).filter(|role| !role.is_empty()) {
        Some(role) => format!("{team}\n\n{}", cut(role, ROLE_MAX)),
        None => team,
    }
}

fn heading(document: &Value) -> Option<String> {
    let title = text(document, "title").unwrap_or("no title");
    let number = format!("task {}, attempt {}", document["id"], document["attempt"]);
    let wish = text(document, "prompt").filter(|wish| *wish != title);
    let mut part = format!("# Your task: {title}\n\n({number})");
    if let Some(wish) = wish {
        part = format!("{part}\n\n{}", cut(wish, TASK_MAX));
    }
    Some(part)
}

fn needs(document: &Value) -> Option<String> {
    let results = document["needs"].as_object().filter(|results| !results.is_empty())?;
    let mut part = "# Results of the tasks it needs".to_owned();
    let mut room = NEEDS_MAX;
    for (key, result) in results {
        let told = match result {
            Value::String(text) => text.clone(),
            Value::Null => "(no result)".to_owned(),
            other => other.to_string(),
        };
        let told = cut(&told, NEED_MAX.min(room));
        room = room.saturating_sub(told.len());
        part.push_str(&format!("\n\n## {key}\n\n{told}"));
    }
    Some(part)
}

fn earlier(document: &Value) -> Option<String> {
    let attempts = document["previous_attempts"].as_array().filter(|list| !list.is_empty())?;
    let (set_aside, failed): (Vec<&Value>, Vec<&Value>) =
        attempts.iter().partition(|past| was_set_aside(past));
    let parts: Vec<String> = [failures(&failed), interruptions(&set_aside)].into_iter().flatten().collect();
    Some(parts.join("\n\n"))
}

/// An attempt that was parked or given back tells nothing of what is wrong with the work.
fn was_set_aside(attempt: &Value) -> bool {
    matches!(text(attempt, "outcome"), Some("parked" | "released"))
}

fn failures(attempts: &[&Value]) -> Option<String> {
    let passed_over = attempts.len().saturating_sub(ATTEMPTS_MAX);
    let mut part = "# Earlier attempts, which did not succeed: do not repeat what failed".to_owned();
    if passed_over > 0 {
        part.push_str(&format!("\n\n({passed_over} older ones are left out.)"));
    }
    for attempt in &attempts[passed_over..] {
        let agent = text(attempt, "agent").unwrap_or("?");
        let outcome = text(attempt, "outcome").unwrap_or("ended");
        let reason = cut(text(attempt, "reason").unwrap_or("no reason known"), OUTPUT_MAX);
        part.push_str(&format!("\n\n- attempt {} by {agent}: {outcome}: {reason}", attempt["attempt"]));
        if let Some(output) = text(attempt, "output") {
            part.push_str(&format!("\n  Its output ended with:\n\n{}", indented(end_of(output, OUTPUT_MAX))));
        }
    }
    (!attempts.is_empty()).then_some(part)
}

fn interruptions(attempts: &[&Value]) -> Option<String> {
    let why = cut(text(attempts.last()?, "reason").unwrap_or("no reason known"), OUTPUT_MAX);
    let how_many = match attempts.len() {
        1 => "One was".to_owned(),
        many => format!("{many} were"),
    };
    Some(format!(
        "# Earlier attempts that were broken off\n\n{how_many} parked or given back before the end, the last for: {why}. \
         What they did may be here already: go on from it."
    ))
}

fn held(document: &Value) -> Option<String> {
    let claims = document["claims_of_others"].as_array().filter(|list| !list.is_empty())?;
    let mut part = "# Held by others: do not change these".to_owned();
    part.push('\n');
    for claim in claims.iter().take(CLAIMS_MAX) {
        let resource = cut(text(claim, "resource").unwrap_or("?"), CLAIM_MAX);
        part.push_str(&format!("\n- {resource} ({})", text(claim, "agent").unwrap_or("?")));
    }
    if claims.len() > CLAIMS_MAX {
        part.push_str(&format!("\n- and {} more: `quorate claims` shows all", claims.len() - CLAIMS_MAX));
    }
    Some(part)
}

fn finish(document: &Value, has_tools: bool) -> Option<String> {
    let mut lines = vec![
        "- Your last message is the task's result: what you found or did, complete and brief. Others see nothing \
         else of your work."
            .to_owned(),
        format!("- If the task cannot be done, let the last line be `{FAILED} ` and why."),
    ];
    let outputs: Vec<&str> =
        document["outputs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !outputs.is_empty() {
        lines.push(format!("- Leave these files: {}.", cut(&outputs.join(", "), OUTPUT_MAX)));
    }
    // A word that begins so is no command: the supervisor reads the result itself.
    if let Some(check) = text(document, "verify").filter(|check| !check.starts_with('@')) {
        lines.push(format!(
            "- When you are done, this check is run and must pass: `{}`. Run it yourself first.",
            cut(check, OUTPUT_MAX)
        ));
    }
    let claims: Vec<&str> =
        document["claims"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !claims.is_empty() {
        lines.push(format!("- Yours alone meanwhile: {}.", cut(&claims.join(", "), OUTPUT_MAX)));
    }
    if has_tools {
        lines.push(format!(
            "- The tools of the MCP server `quorate` reach the team: `progress` with what you find, `claim` before you \
             change what others may change, `recall`, `send`. This task is {} under term {}.",
            document["id"], document["term"]
        ));
    }
    Some(format!("# How to finish\n\n{}", lines.join("\n")))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value[key].as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// Returns the end of a text, in so many bytes at most.
fn end_of(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "id": 7, "term": 3, "attempt": 2, "agent": "research", "title": "Read the notes",
            "prompt": "Read docs/notes.md.\nSay what is open.",
            "needs": { "find": { "files": 3 }, "list": "a\nb", "none": null },
            "previous_attempts": [{
                "attempt": 1, "agent": "other", "outcome": "failed", "reason": "exited with code 1: no file",
                "output": "looking\nno file\n"
            }],
            "claims_of_others": [{ "resource": "src/**", "agent": "ada" }],
            "outputs": ["notes.txt"], "verify": "test -s notes.txt", "claims": ["docs/**"],
        })
    }

    #[test]
    fn the_prompt_is_as_it_is_in_the_snapshot() {
        let prompt = Prompt::new(&document(), Some("You read patiently.\n"), true);
        let expected = include_str!("../tests/prompt.txt");
        assert_eq!(prompt.whole(), expected, "\n--- found\n{}", prompt.whole());
    }

    #[test]
    fn a_task_that_is_only_a_title_is_told_without_empty_parts() {
        let prompt = Prompt::new(
            &json!({ "id": 1, "attempt": 1, "title": "Tidy up", "prompt": "Tidy up" }),
            None,
            false,
        );
        let headings: Vec<&str> = prompt.task.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(headings, ["# Your task: Tidy up", "# How to finish"]);
        assert_eq!(prompt.task.matches("Tidy up").count(), 1);
    }

    #[test]
    fn every_part_is_cut_at_its_limit_with_a_note() {
        let check = |key: &str, value: Value, limit: usize, letter: char| {
            let mut document = document();
            document[key] = value;
            let told = Prompt::new(&document, None, false).task;
            let count = told.chars().filter(|c| *c == letter).count();
            assert!(count <= limit && count > limit / 2, "{key}: {count} of {limit}");
            assert!(told.contains("left out") || told.contains("more:"), "{key}");
        };
        let long = |letter: &str| letter.repeat(200 << 10);
        check("prompt", long("Z").into(), TASK_MAX, 'Z');
        check("verify", long("Z").into(), OUTPUT_MAX, 'Z');
        check("needs", json!({ "a": long("Z") }), NEED_MAX, 'Z');
        let many: serde_json::Map<String, Value> =
            (0..40).map(|n| (n.to_string(), long("Z").into())).collect();
        check("needs", many.into(), NEEDS_MAX, 'Z');
        let attempts = vec![json!({ "attempt": 1, "output": format!("{}Z", long("q")) }); ATTEMPTS_MAX + 5];
        check("previous_attempts", attempts.into(), ATTEMPTS_MAX, 'Z');
        let claims = vec![json!({ "resource": "Z", "agent": "a" }); CLAIMS_MAX + 1];
        check("claims_of_others", claims.into(), CLAIMS_MAX, 'Z');
    }

    #[test]
    fn a_night_of_rate_limits_does_not_push_out_why_the_work_failed() {
        let past = |attempt: i64, outcome: &str, reason: &str| json!({ "attempt": attempt, "agent": "a", "outcome": outcome, "reason": reason });
        let mut attempts = vec![past(1, "verify_failed", "the check exited with code 1")];
        attempts.extend((2..=9).map(|attempt| past(attempt, "parked", "rate limit")));
        attempts.push(past(10, "released", "its node stops"));
        let mut document = document();
        document["previous_attempts"] = attempts.into();
        let told = Prompt::new(&document, None, false).task;
        assert!(told.contains("- attempt 1 by a: verify_failed: the check exited with code 1"), "{told}");
        assert!(
            told.contains("9 were parked or given back before the end, the last for: its node stops."),
            "{told}"
        );
        assert!(!told.contains("rate limit"), "{told}");
        document["previous_attempts"] = json!([past(1, "parked", "rate limit")]);
        let told = Prompt::new(&document, None, false).task;
        assert!(told.contains("One was parked") && !told.contains("did not succeed"), "{told}");
    }

    #[test]
    fn the_end_of_an_output_is_kept_whole_characters() {
        assert_eq!(end_of("aéb", 2), "b");
        assert_eq!(end_of("aéb", 3), "éb");
        assert_eq!(end_of("ab", 9), "ab");
    }

    #[test]
    fn a_role_is_cut_at_its_limit() {
        let role = |length: usize| Prompt::new(&document(), Some(&"Z".repeat(length)), false).role;
        assert!(!role(ROLE_MAX).contains("left out"));
        assert!(role(ROLE_MAX + 1).ends_with("[1 more bytes left out]"));
    }
}
