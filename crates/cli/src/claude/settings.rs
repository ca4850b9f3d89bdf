//! What Claude Code's JSON files get from us, merged into what is there.
//!
//! Here live the entries of ours, and putting them into a text or taking them out again; files are `install`'s. The text stays
//! as it is written, its order, indentation and line ends too: only what is ours is inserted or removed. What somebody
//! else put where ours would stand is left alone.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use quorate_model::diagnostic::Diagnostics;
use quorate_model::document::{Entry, Node, NodeKind, Source};
use quorate_model::{Error, Result};
use serde_json::{Value, json};

/// Begins the command of every hook of ours.
const HOOK: &str = "quorate hook ";
/// The command of the status line.
const STATUSLINE: &str = "quorate statusline";
/// What our server is called.
const SERVER: &str = "quorate";
/// The tools that change a file they name.
const EDITS: &str = "Edit|Write|MultiEdit|NotebookEdit";

/// The hooks: the event, which tools or sources, whether Claude Code goes on meanwhile.
const HOOKS: [(&str, Option<&str>, bool); 8] = [
    ("SessionStart", None, false),
    ("UserPromptSubmit", None, false),
    ("PreToolUse", Some(EDITS), false),
    ("PostToolUse", None, true),
    ("PreCompact", None, false),
    ("Stop", None, false),
    ("SubagentStop", None, true),
    ("SessionEnd", None, false),
];

/// Seconds after which Claude Code goes on without an answer.
const TIMEOUT_S: i64 = 10;

/// The keys of what is ours, in the order in which people write them.
const KEYS: [&str; 7] = ["matcher", "hooks", "type", "command", "args", "timeout", "async"];

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `.claude/settings.json`: hooks and status line.
    Settings,
    /// `.mcp.json`: the MCP server.
    Mcp,
}

/// A text with our entries, or without them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edited {
    /// The text.
    pub text: String,
    /// What was left as somebody else has it, in words.
    pub left: Vec<String>,
}

/// Returns what a hook of ours is, as in a settings file.
fn hook(event: &str, matcher: Option<&str>, in_background: bool) -> Value {
    let mut command = json!({ "type": "command", "command": format!("{HOOK}{event}"), "timeout": TIMEOUT_S });
    if in_background {
        command["async"] = true.into();
    }
    match matcher {
        Some(matcher) => json!({ "matcher": matcher, "hooks": [command] }),
        None => json!({ "hooks": [command] }),
    }
}

fn status_line() -> Value {
    json!({ "type": "command", "command": STATUSLINE })
}

fn server() -> Value {
    json!({ "command": "quorate", "args": ["mcp"] })
}

/// Returns all hooks of ours by event, as in a settings file or a plugin.
#[cfg(test)]
fn hooks() -> Value {
    let all = HOOKS.map(|(event, matcher, behind)| (event.to_owned(), json!([hook(event, matcher, behind)])));
    Value::Object(all.into_iter().collect())
}

/// Returns all servers of ours by name.
#[cfg(test)]
fn servers() -> Value {
    json!({ SERVER: server() })
}

/// Puts our entries in. `file` is for messages.
///
/// # Errors
/// `Invalid`, with file and line, for a text that is no JSON or not of the form that Claude Code reads.
pub(super) fn put_in(kind: Kind, file: &str, text: &str) -> Result<Edited> {
    let (mark, root) = open(kind, file, text)?;
    let object = root.object_value_or_set();
    let mut left = Vec::new();
    match kind {
        Kind::Settings => {
            put_hooks(&object.object_value_or_set("hooks"));
            put_one(&object, "statusLine", &status_line(), "a status line", &mut left);
        }
        Kind::Mcp => {
            let servers = object.object_value_or_set("mcpServers");
            put_one(&servers, SERVER, &server(), "an MCP server `quorate`", &mut left);
        }
    }
    Ok(Edited { text: format!("{mark}{root}"), left })
}

/// Takes our entries out, and what they leave empty.
///
/// # Errors
/// As [`put_in`].
pub(super) fn take_out(kind: Kind, file: &str, text: &str) -> Result<Edited> {
    if says_nothing(text) {
        return Ok(Edited { text: text.to_owned(), left: Vec::new() });
    }
    let (mark, root) = open(kind, file, text)?;
    let object = root.object_value_or_set();
    let mut left = Vec::new();
    match kind {
        Kind::Settings => {
            if let Some(hooks) = object.object_value("hooks")
                && take_hooks(&hooks)
            {
                drop_if_empty(&object, "hooks");
            }
            let _ = take_one(&object, "statusLine", &status_line(), "the status line", &mut left);
        }
        Kind::Mcp => {
            if let Some(servers) = object.object_value("mcpServers")
                && take_one(&servers, SERVER, &server(), "the MCP server `quorate`", &mut left)
            {
                drop_if_empty(&object, "mcpServers");
            }
        }
    }
    Ok(Edited { text: format!("{mark}{root}"), left })
}

/// Returns whether nothing is said in a text: it is blank, or an empty object.
pub(super) fn says_nothing(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim();
    text.is_empty() || matches!(serde_json::from_str(text), Ok(Value::Object(all)) if all.is_empty())
}

/// Returns whether two texts say the same, but for containers that are empty.
pub(super) fn say_the_same(one: &str, other: &str) -> bool {
    let read = |text: &str| -> Option<Value> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let text = if text.is_empty() { "{}" } else { text };
        serde_json::from_str(text).ok().map(pruned)
    };
    read(one).is_some_and(|one| read(other) == Some(one))
}

/// The value without what is empty at the places where we leave empty containers.
fn pruned(mut value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    };
    if let Some(hooks) = value.get_mut("hooks").and_then(Value::as_object_mut) {
        hooks.retain(|_, groups| !is_empty(groups));
    }
    if let Some(root) = value.as_object_mut() {
        root.retain(|key, value| !(matches!(key.as_str(), "hooks" | "mcpServers") && is_empty(value)));
    }
    value
}

/// Checks a text and opens it for changes; answers also with its byte order mark.
fn open<'a>(kind: Kind, file: &str, text: &'a str) -> Result<(&'a str, CstRootNode)> {
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mark = &text[..text.len() - bare.len()];
    if !bare.trim().is_empty() {
        check(kind, file, text)?;
    }
    let root =
        CstRootNode::parse(if bare.trim().is_empty() { "{}\n" } else { bare }, &ParseOptions::default());
    let root = root.map_err(|e| Error::invalid(format!("{file}: {e}")))?;
    Ok((mark, root))
}

/// Refuses what Claude Code would not read either, with its place: then there is nothing to be merged with.
fn check(kind: Kind, file: &str, text: &str) -> Result<()> {
    read_strictly(kind, file, text).map_err(|wrong| {
        let error = Error::from(wrong);
        if error.hint.is_some() {
            error
        } else {
            error.hint("mend the file, then run this again; nothing was changed")
        }
    })
}

fn read_strictly(kind: Kind, file: &str, text: &str) -> Result<(), Diagnostics> {
    let source = Source::open(file, text.as_bytes())?;
    let root = source.read_json()?;
    match kind {
        Kind::Settings => {
            if let Some(hooks) = part(&source, &root, "hooks") {
                for entry in entries(hooks) {
                    check_groups(&source, &entry.key, &entry.value);
                }
            }
        }
        Kind::Mcp => drop(part(&source, &root, "mcpServers")),
    }
    source.verdict(())
}

fn entries(node: &Node) -> &[Entry] {
    match &node.kind {
        NodeKind::Table(entries) => entries,
        _ => &[],
    }
}

/// The object at a key of the root, if there is one; another value is refused.
fn part<'a>(source: &Source<'_>, root: &'a Node, key: &str) -> Option<&'a Node> {
    if !matches!(root.kind, NodeKind::Table(_)) {
        source.refuse(root.span.clone(), format!("the file must be an object, not {}", root.kind.name()));
        return None;
    }
    let value = &entries(root).iter().find(|entry| entry.key == key)?.value;
    if !matches!(value.kind, NodeKind::Table(_)) {
        source.refuse(value.span.clone(), format!("`{key}` must be an object, not {}", value.kind.name()));
        return None;
    }
    Some(value)
}

fn check_groups(source: &Source<'_>, event: &str, groups: &Node) {
    if HOOKS.iter().any(|(ours, ..)| *ours == event) && !matches!(groups.kind, NodeKind::Array(_)) {
        let message = format!("the hooks of `{event}` must be an array, not {}", groups.kind.name());
        source.refuse(groups.span.clone(), message);
    }
}

fn put_hooks(hooks: &CstObject) {
    for (event, matcher, behind) in HOOKS {
        let groups = hooks.array_value_or_set(event);
        let is_there = groups.elements().iter().any(|group| !our_commands(group, event).is_empty());
        if !is_there {
            groups.append(input(&hook(event, matcher, behind)));
        }
    }
}

/// Takes our hooks out; answers whether there were any.
fn take_hooks(hooks: &CstObject) -> bool {
    let mut took_any = false;
    for (event, ..) in HOOKS {
        let Some(groups) = hooks.array_value(event) else { continue };
        let mut took = false;
        for group in groups.elements() {
            let ours = our_commands(&group, event);
            took |= !ours.is_empty();
            ours.into_iter().for_each(CstNode::remove);
            if took && commands(&group).is_some_and(|commands| commands.elements().is_empty()) {
                group.remove();
            }
        }
        if took {
            drop_if_empty(hooks, event);
        }
        took_any |= took;
    }
    took_any
}

fn commands(group: &CstNode) -> Option<CstArray> {
    group.as_object()?.array_value("hooks")
}

/// The commands of a group that are our hook for this event.
fn our_commands(group: &CstNode, event: &str) -> Vec<CstNode> {
    let is_ours = |node: &CstNode| {
        let command = node.as_object().and_then(|object| text(&object, "command"));
        command.is_some_and(|command| command.trim().strip_prefix(HOOK) == Some(event))
    };
    commands(group)
        .map(|commands| commands.elements().into_iter().filter(is_ours).collect())
        .unwrap_or_default()
}

fn text(object: &CstObject, key: &str) -> Option<String> {
    object.get(key)?.value()?.as_string_lit()?.decoded_value().ok()
}

/// Puts a value at a key where nothing is.
fn put_one(object: &CstObject, key: &str, ours: &Value, what: &str, left: &mut Vec<String>) {
    match object.get(key) {
        None => drop(object.append(key, input(ours))),
        Some(there) if there.value().is_some_and(|value| parsed(&value) == Some(ours.clone())) => {}
        Some(_) => left.push(format!("there is {what} already, and it stays")),
    }
}

/// Takes a value out where it is exactly ours; answers whether it was.
fn take_one(object: &CstObject, key: &str, ours: &Value, what: &str, left: &mut Vec<String>) -> bool {
    let Some(there) = object.get(key) else { return false };
    let is_ours = there.value().is_some_and(|value| parsed(&value) == Some(ours.clone()));
    if is_ours {
        there.remove();
    } else {
        left.push(format!("{what} is not as it was written, and stays"));
    }
    is_ours
}

fn parsed(node: &CstNode) -> Option<Value> {
    serde_json::from_str(&node.to_string()).ok()
}

fn drop_if_empty(object: &CstObject, key: &str) {
    let Some(property) = object.get(key) else { return };
    let is_empty =
        property.value().is_some_and(|value| value.children_exclude_trivia_and_tokens().is_empty());
    if is_empty {
        property.remove();
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(flag) => CstInputValue::Bool(*flag),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(list) => CstInputValue::Array(list.iter().map(input).collect()),
        Value::Object(all) => {
            let mut members: Vec<_> = all.iter().map(|(key, value)| (key.clone(), input(value))).collect();
            members.sort_by_key(|(key, _)| KEYS.iter().position(|known| known == key));
            CstInputValue::Object(members)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(kind: Kind, text: &str) -> String {
        put_in(kind, "f.json", text).unwrap_or_else(|e| panic!("{e:?}\n{text}")).text
    }

    fn take(kind: Kind, text: &str) -> String {
        take_out(kind, "f.json", text).unwrap_or_else(|e| panic!("{e:?}\n{text}")).text
    }

    const NASTY: [&str; 9] = [
        "{\n    \"z\": 1,\n    \"a\": [1, 2,   3],\n    \"hooks\": {\n        \"Stop\": [\n            {\n                \"hooks\": [{\"type\": \"command\", \"command\": \"./mine.sh\"}]\n            }\n        ],\n        \"Other\": []\n    }\n}\n",
        "{\r\n\t\"permissions\": {\"allow\": [\"Bash(ls:*)\"]},\r\n\t\"env\": {\"A\": \"\\u00e4\\\"\"}\r\n}\r\n",
        "{\"model\":\"opus\",\"big\":12345678901234567890123,\"f\":1.0}",
        "\u{feff}{\n  \"model\": \"x\"\n}",
        "{\n  \"statusLine\": { \"type\": \"command\", \"command\": \"mine\" }\n}\n",
        "{\n  \"hooks\": {\n    \"PreToolUse\": [\n      {\"matcher\": \"Bash\", \"hooks\": [{\"type\": \"command\", \"command\": \"quorate hookish\"}]},\n      {\"matcher\": \"Edit\", \"hooks\": []}\n    ]\n  }\n}\n",
        "{ \"hooks\": { \"Stop\": [ { \"hooks\": [ { \"type\": \"command\", \"command\": \"a\" }, { \"type\": \"command\", \"command\": \"b\" } ] } ] } }\n",
        "{\n  \"a\": {\n    \"hooks\": {}\n  }\n}\n",
        "{\n\n\n  \"x\": null\n\n}\n\n\n",
    ];

    #[test]
    fn the_plugin_has_the_same_hooks_and_servers() {
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON");
        let plugin = read(include_str!("../../../../plugin/hooks/hooks.json"));
        assert_eq!(plugin, json!({ "hooks": hooks() }));
        let plugin = read(include_str!("../../../../plugin/.mcp.json"));
        assert_eq!(plugin, json!({ "mcpServers": servers() }));
    }

    #[test]
    fn what_was_there_stays_and_a_second_time_changes_nothing() {
        for text in NASTY {
            let merged = put(Kind::Settings, text);
            assert_eq!(put(Kind::Settings, &merged), merged, "{text}");
            let (before, after) =
                (text.trim_start_matches('\u{feff}'), merged.trim_start_matches('\u{feff}'));
            let (before, after): (Value, Value) =
                (serde_json::from_str(before).expect("JSON"), serde_json::from_str(after).expect("JSON"));
            for (key, value) in
                before.as_object().expect("an object").iter().filter(|(key, _)| *key != "hooks")
            {
                assert_eq!(&after[key], value, "{merged}");
            }
            for (event, groups) in before["hooks"].as_object().into_iter().flatten() {
                let kept = &after["hooks"][event].as_array().expect("an array")
                    [..groups.as_array().map_or(0, Vec::len)];
                assert_eq!(kept, groups.as_array().expect("an array"), "{merged}");
            }
        }
    }

    #[test]
    fn taking_out_leaves_what_was_there() {
        for text in NASTY {
            let back = take(Kind::Settings, &put(Kind::Settings, text));
            assert!(say_the_same(&back, text), "{text}\n{back}");
            assert_eq!(take(Kind::Settings, text), text, "nothing of ours was in it");
        }
        for text in ["{\n  \"mcpServers\": {\n    \"a\": {\"command\": \"a\"}\n  }\n}\n", "{\"other\": 1}\n"]
        {
            assert!(say_the_same(&take(Kind::Mcp, &put(Kind::Mcp, text)), text), "{text}");
        }
    }

    #[test]
    fn indentation_and_line_ends_are_those_of_the_file() {
        let merged = put(Kind::Settings, NASTY[1]);
        assert!(merged.contains("\r\n\t\"hooks\": {\r\n\t\t\"SessionStart\": ["), "{merged}");
        assert!(!merged.replace("\r\n", "").contains('\n'), "{merged}");
        assert!(put(Kind::Settings, NASTY[0]).contains("\n        \"SessionStart\": [\n            {"));
        assert!(put(Kind::Settings, NASTY[3]).starts_with('\u{feff}'));
        assert!(put(Kind::Settings, NASTY[2]).contains("12345678901234567890123"));
    }

    #[test]
    fn an_empty_file_gets_ours_alone_and_says_nothing_afterwards() {
        for (kind, ours) in [
            (Kind::Settings, json!({ "hooks": hooks(), "statusLine": status_line() })),
            (Kind::Mcp, json!({ "mcpServers": servers() })),
        ] {
            for text in ["", " \n", "{}", "{ }\n", "\u{feff}"] {
                let merged = put(kind, text);
                let value: Value = serde_json::from_str(merged.trim_start_matches('\u{feff}')).expect("JSON");
                assert_eq!(value, ours, "{text:?}");
                assert!(says_nothing(&take(kind, &merged)), "{text:?}");
            }
        }
        assert!(!says_nothing("{\"a\": 1}") && !says_nothing("[]"));
    }

    #[test]
    fn what_another_put_there_is_left_and_that_is_said() {
        let mine = put_in(Kind::Settings, "f", NASTY[4]).expect("it is sound");
        assert_eq!(mine.left, ["there is a status line already, and it stays"]);
        let text = "{\"mcpServers\": {\"quorate\": {\"command\": \"/opt/quorate\", \"args\": [\"mcp\"]}}}";
        let edited = put_in(Kind::Mcp, "f", text).expect("it is sound");
        assert_eq!((edited.text.as_str(), edited.left.len()), (text, 1));
        let edited = take_out(Kind::Mcp, "f", text).expect("it is sound");
        assert_eq!((edited.text.as_str(), edited.left.len()), (text, 1));
    }

    #[test]
    fn a_hook_that_somebody_moved_among_others_is_ours_still() {
        let text = "{\"hooks\": {\"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"a\"}, {\"type\": \"command\", \"command\": \"quorate hook Stop\", \"timeout\": 3}]}]}}";
        let merged = put(Kind::Settings, text);
        assert_eq!(merged.matches("quorate hook Stop").count(), 1, "{merged}");
        let back: Value = serde_json::from_str(&take(Kind::Settings, &merged)).expect("JSON");
        assert_eq!(back, json!({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "a"}]}]}}));
    }

    #[test]
    fn a_broken_file_is_refused_with_its_place() {
        let check = |kind: Kind, text: &str, expected: &str| {
            let error = put_in(kind, "f.json", text).expect_err(text);
            assert!(error.message.contains(expected), "{text}: {}", error.message);
            assert!(take_out(kind, "f.json", text).is_err() && error.hint.is_some());
        };
        check(Kind::Settings, "{\n  \"a\": 1,\n}", "f.json:2:9: trailing commas are not allowed");
        check(Kind::Settings, "{\n  \"a\": tru\n}", "f.json:2:");
        check(Kind::Settings, "{\"a\": 1 // remark\n}", "f.json:1:");
        check(Kind::Settings, "[1]", "f.json:1:1: the file must be an object, not an array");
        check(Kind::Settings, "{\n\"hooks\": []}", "f.json:2:10: `hooks` must be an object, not an array");
        check(
            Kind::Settings,
            "{\"hooks\": {\n\"Stop\": {}}}",
            "f.json:2:9: the hooks of `Stop` must be an array",
        );
        check(Kind::Settings, "{\"a\": 1,\n\"a\": 2}", "f.json:2:1");
        check(Kind::Mcp, "{\"mcpServers\": 7}", "`mcpServers` must be an object");
        check(Kind::Mcp, "{\"mcpServers\": {}", "f.json:1:");
    }
}
