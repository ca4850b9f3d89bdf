//! JSON: any bytes, read by both readers there are.
//!
//! Plans in JSON are read with places by `quorate_model::document`; results, metadata and what children say by
//! `serde_json`. Both must take and refuse the same, but for what plans alone refuse: deep nesting and keys that are
//! given twice. Each is the model of the other.

use crate::finding;
use quorate_model::diagnostic::Diagnostics;
use quorate_model::document::{Node, NodeKind, Source};
use serde_json::{Map, Value};

/// Reads the bytes with both.
pub fn check(bytes: &[u8]) {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    match (read(bytes), serde_json::from_slice::<Value>(text)) {
        (Ok(node), Ok(value)) => {
            assert!(same(&as_value(&node), &value), "{node:?} and {value}");
            check_round_trip(&value);
        }
        (Ok(node), Err(error)) => assert!(is_vast(&node), "only a plan may be {node:?}: {error}"),
        (Err(found), value) => {
            finding::check(&found, "f.json", bytes);
            assert!(value.is_err() || found.list.iter().all(is_of_plans), "only refused in a plan: {found}");
            value.iter().for_each(check_round_trip);
        }
    }
}

fn read(bytes: &[u8]) -> Result<Node, Diagnostics> {
    let source = Source::open("f.json", bytes)?;
    let node = source.read_json()?;
    source.verdict(node)
}

fn is_of_plans(finding: &quorate_model::diagnostic::Diagnostic) -> bool {
    ["nested more than 64 deep", "is given twice"].iter().any(|part| finding.message.contains(part))
}

/// Checks that what is stored is what was given: a result goes to the database as text.
fn check_round_trip(value: &Value) {
    let text = value.to_string();
    assert!(
        !text.contains(|c: char| c.is_ascii_control() && c != '\u{7f}'),
        "raw control characters: {text:?}"
    );
    let again: Value = serde_json::from_str(&text).expect("what was printed is JSON");
    assert!(same(&again, value), "{again} and {value}");
}

/// Tells whether a number beyond those of 64 bits is in it, which the one reader makes infinite, the other refuses.
fn is_vast(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Number(number) => number.is_infinite(),
        NodeKind::Array(items) => items.iter().any(is_vast),
        NodeKind::Table(entries) => entries.iter().any(|entry| is_vast(&entry.value)),
        _ => false,
    }
}

fn as_value(node: &Node) -> Value {
    match &node.kind {
        NodeKind::Null => Value::Null,
        NodeKind::Boolean(truth) => (*truth).into(),
        NodeKind::Integer(number) => (*number).into(),
        NodeKind::Number(number) => (*number).into(),
        NodeKind::String(text) | NodeKind::Time(text) => text.as_str().into(),
        NodeKind::Array(items) => items.iter().map(as_value).collect(),
        NodeKind::Table(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), as_value(&entry.value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// Compares values; numbers may differ in their last digit, as one of the readers does not round to the nearest.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}
