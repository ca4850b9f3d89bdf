//! An operation as the network asks for it.
//!
//! Here live the trait that every operation implements once, and the reading of its inputs: the fields of one value, which
//! come from the path, the query and a JSON body. Routes, the OpenAPI document and the reading all follow from it, so that
//! they cannot differ. What an operation does stands in the file of its noun, below `http`.

use crate::caller::Caller;
use crate::desk::Desk;
use axum::http::Method;
use quorate_model::{Error, Result, nearest};
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The longest part of a wrong input that is repeated in an error, in characters.
const SHOWN_MAX: usize = 60;
/// The first number that is too large for a field, 2^63.
const WHOLE_MAX: f64 = 9_223_372_036_854_775_808.0;

/// An operation: its inputs are its fields.
pub(crate) trait Ask: DeserializeOwned + JsonSchema + Send + 'static {
    /// GET takes its inputs from path and query, POST and DELETE from path and body.
    const METHOD: Method;
    /// Where it is, below `/api/v1`; `{name}` is the field of that name.
    const PATH: &'static str;
    /// What programs call it.
    const NAME: &'static str;
    /// What it does, in one line.
    const ABOUT: &'static str;
    /// What it answers with.
    type Answer: Serialize + JsonSchema + Send;

    /// Does it.
    fn answer(self, desk: &Desk, by: &Caller) -> impl Future<Output = Result<Self::Answer>> + Send;
}

/// Returns the fields that a path names.
pub(crate) fn path_fields(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// The inputs of an operation, as they came.
pub(crate) struct Inputs<'a> {
    /// What they are.
    pub(crate) schema: &'a Schema,
    /// Those of the path, and of the query of a GET. They hold texts; which of them are numbers, flags and lists, the schema tells.
    pub(crate) texts: Vec<(String, String)>,
    /// A JSON object, or nothing.
    pub(crate) body: &'a [u8],
}

impl Inputs<'_> {
    /// Reads them.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T> {
        let schema = self.schema;
        serde_path_to_error::deserialize(self.value()?).map_err(|e| wrong(schema, &e))
    }

    fn value(self) -> Result<Value> {
        let mut inputs = read_body(self.body)?;
        whole_numbers(self.schema.get("properties"), &mut inputs);
        for (name, text) in self.texts {
            let value = typed(self.schema, &name, &text)?;
            if inputs.insert(name.clone(), value).is_some() {
                return Err(Error::invalid(format!("`{}` is given twice", shown(&name))));
            }
        }
        Ok(Value::Object(inputs))
    }
}

fn read_body(body: &[u8]) -> Result<Map<String, Value>> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::invalid("the body is not a JSON object")),
        Err(e) => Err(Error::invalid(format!("the body is not JSON: {e}"))),
    }
}

/// Writes whole numbers as such where a field takes one.
pub(crate) fn whole_numbers(fields: Option<&Value>, inputs: &mut Map<String, Value>) {
    let Some(fields) = fields else { return };
    for (name, value) in inputs {
        let Some(number) = value.as_f64().filter(|_| value.is_f64()).and_then(whole) else { continue };
        if is_of(fields, name, "integer") {
            *value = number.into();
        }
    }
}

/// Returns a whole number, however it was written: to JSON, `40`, `40.0` and `4e1` are the same.
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < WHOLE_MAX).then_some(number as i64)
}

/// What a text in a path or query stands for.
fn typed(schema: &Schema, name: &str, text: &str) -> Result<Value> {
    let is = |kind: &str| is_a(schema, name, kind);
    if is("integer") {
        let number = text.parse::<i64>().ok().or_else(|| whole(serde_json::from_str(text).ok()?));
        return number
            .map(Value::from)
            .ok_or_else(|| Error::invalid(format!("`{name}` is {:?}, not a whole number", shown(text))));
    }
    if is("boolean") {
        let flag = text.parse::<bool>();
        return flag
            .map(Value::from)
            .map_err(|_| Error::invalid(format!("`{name}` is {:?}, neither true nor false", shown(text))));
    }
    if is("array") {
        return Ok(text.split(',').filter(|item| !item.is_empty()).map(Value::from).collect());
    }
    Ok(text.into())
}

/// Tells whether the schema says that a field is of a kind, or of that kind or null.
fn is_a(schema: &Schema, name: &str, kind: &str) -> bool {
    schema.get("properties").is_some_and(|fields| is_of(fields, name, kind))
}

fn is_of(fields: &Value, name: &str, kind: &str) -> bool {
    match fields.get(name).and_then(|field| field.get("type")) {
        Some(Value::String(is)) => is == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|is| is == kind),
        _ => false,
    }
}

fn wrong(schema: &Schema, e: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let (place, why) = (e.path().to_string(), e.inner().to_string());
    let message = if place == "." { why.clone() } else { format!("`{}`: {why}", shown(&place)) };
    let error = Error::invalid(message);
    let unknown = why.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let fields = schema.get("properties").and_then(Value::as_object);
    match (unknown, fields) {
        (Some(unknown), Some(fields)) => match nearest(unknown, fields.keys().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("the fields are in /api/v1/openapi.json"),
        },
        _ => error.hint("what each field takes is in /api/v1/openapi.json"),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}
