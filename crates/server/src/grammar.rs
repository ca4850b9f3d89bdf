//! What a field may hold, for the document: patterns and bounds.
//!
//! A word of the API means one thing in all operations, so a field's name says which grammar it has; where it does not (a kind
//! of memory, a kind of message), the field itself says it, with the words that are made here. The readers are the law;
//! this only tells others what they read. What depends on more than the field itself is not said here.

use quorate_model::name::{NAME_MAX, NODE_MAX};
use quorate_model::plan::ATTEMPTS_MAX;
use serde_json::{Value, json};

/// Adds to the schema of a field what its readers refuse.
pub(crate) fn narrow(field: &str, schema: &mut Value) {
    let Some((kind, rules)) = rules(field) else { return };
    if is(schema, kind) {
        add(schema, &rules);
    } else if is(schema, "array") {
        if let Some(items) = schema.get_mut("items").filter(|items| is(items, kind)) {
            add(items, &rules);
        }
        if field == "resources" {
            add(schema, &json!({ "minItems": 1 }));
        }
    }
}

/// Returns the pattern of a field that is one of a few words.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    format!("^({})$", words.join("|"))
}

/// Returns the pattern of a name.
fn name() -> String {
    format!("^{}$", letters())
}

/// Returns the pattern of the name by which an agent of the team is called.
pub(crate) fn agent() -> String {
    format!("^{}(@[0-9]{{1,{NODE_MAX}}})?$", letters())
}

/// A name that is given to somebody or something.
fn letters() -> String {
    format!("[A-Za-z0-9][A-Za-z0-9._-]{{0,{}}}", NAME_MAX - 1)
}

/// Returns what a field is not that may be anything but empty.
pub(crate) fn blank() -> Value {
    json!({ "anyOf": [{ "type": "null" }, { "type": "string", "pattern": r"^\s*$" }] })
}

/// Returns the type that the rules are for, and the rules.
fn rules(field: &str) -> Option<(&'static str, Value)> {
    Some(match field {
        "name" | "capability" | "capabilities" => ("string", json!({ "pattern": name() })),
        "agent" | "from" | "to" => ("string", json!({ "pattern": agent() })),
        "title" | "text" | "error" | "reason" | "action" | "resources" | "goal" => {
            ("string", json!({ "pattern": r"\S" }))
        }
        "ttl" | "wait" | "lease" | "timeout" => {
            let units = ["d", "h", "m", "s", "ms"].map(|unit| format!("([0-9]+{unit})?")).concat();
            ("string", json!({ "pattern": format!("^{units}$"), "minLength": 2 }))
        }
        "priority" => ("string", json!({ "pattern": "^(high|medium|low)$" })),
        "percent" => ("integer", json!({ "minimum": 0, "maximum": 100 })),
        "attempts" => ("integer", json!({ "minimum": 1, "maximum": ATTEMPTS_MAX })),
        _ => return None,
    })
}

/// Whether a schema is of a type, or of that or null.
fn is(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    }
}

fn add(schema: &mut Value, rules: &Value) {
    let (Some(map), Some(rules)) = (schema.as_object_mut(), rules.as_object()) else { return };
    map.extend(rules.iter().map(|(name, rule)| (name.clone(), rule.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_narrowed_where_its_type_fits() {
        let mut percent = json!({ "type": ["integer", "null"] });
        narrow("percent", &mut percent);
        assert_eq!(percent, json!({ "type": ["integer", "null"], "minimum": 0, "maximum": 100 }));
        let mut resources = json!({ "type": "array", "items": { "type": "string" } });
        narrow("resources", &mut resources);
        let narrowed =
            json!({ "type": "array", "items": { "type": "string", "pattern": r"\S" }, "minItems": 1 });
        assert_eq!(resources, narrowed);
        let elsewhere = json!({ "$ref": "#/components/schemas/Attempts" });
        let mut same = elsewhere.clone();
        narrow("attempts", &mut same);
        assert_eq!(same, elsewhere);
    }
}
