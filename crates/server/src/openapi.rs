//! The document that describes the HTTP door: OpenAPI 3.1, made of the operations themselves.
//!
//! Here lives how an operation's fields become parameters and a body, and its answer a response. Nothing is described
//! that is not a route, and no route is left out: both come from the same list.

use crate::ask::{Ask, path_fields};
use crate::grammar::narrow;
use crate::http::BASE;
use crate::problem::{MEDIA_TYPE, Problem};
use axum::http::Method;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// What the document says of itself, and of each text that is sent.
const ABOUT: &str =
    "Coordinates a team of AI agents through one ledger. No text may hold the character U+0000.";

/// Returns the schema of a value by itself.
pub(crate) fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
}

/// The document while it is made.
pub(crate) struct Document {
    /// What is taken: what has a default can be left out.
    taken: SchemaGenerator,
    /// What is answered: only what is always written can be relied on.
    answered: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Document {
    /// Begins an empty document.
    pub(crate) fn new() -> Document {
        let settings = SchemaSettings::draft2020_12()
            .with(|settings| settings.definitions_path = "/components/schemas".into());
        Document {
            taken: settings.clone().for_deserialize().into_generator(),
            answered: settings.for_serialize().into_generator(),
            paths: Map::new(),
        }
    }

    /// Adds an operation.
    pub(crate) fn add<A: Ask>(&mut self) {
        let answer = self.answered.subschema_for::<A::Answer>();
        let content = json!({ "application/json": { "schema": answer } });
        self.operation::<A>(&A::METHOD, A::PATH, A::NAME, A::ABOUT, content);
    }

    /// Adds one that answers with a stream, or with one page of it.
    pub(crate) fn add_stream<Inputs: JsonSchema, Page: JsonSchema>(
        &mut self,
        path: &str,
        name: &str,
        about: &str,
    ) {
        let page = self.answered.subschema_for::<Page>();
        let content = json!({
            "text/event-stream": { "schema": { "type": "string" } },
            "application/json": { "schema": page },
        });
        self.operation::<Inputs>(&Method::GET, path, name, about, content);
    }

    /// Adds one that is posted to and answers with a file.
    pub(crate) fn add_file<Inputs: JsonSchema>(
        &mut self,
        path: &str,
        name: &str,
        about: &str,
        media_type: &str,
    ) {
        let content = json!({ media_type: { "schema": { "type": "string", "format": "binary" } } });
        self.operation::<Inputs>(&Method::POST, path, name, about, content);
    }

    fn operation<Inputs: JsonSchema>(
        &mut self,
        method: &Method,
        path: &str,
        name: &str,
        about: &str,
        content: Value,
    ) {
        let inputs = Inputs::json_schema(&mut self.taken).to_value();
        self.describe(&inputs, method, path, name, about, content);
    }

    fn describe(
        &mut self,
        inputs: &Value,
        method: &Method,
        path: &str,
        name: &str,
        about: &str,
        content: Value,
    ) {
        let fields = inputs.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let required: Vec<&str> = inputs
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let in_path: Vec<&str> = path_fields(path).collect();
        let mut parameters = Vec::new();
        let mut body = Map::new();
        for (field, mut schema) in fields {
            // What only narrows a list may be anything: then nothing is found.
            if method != Method::GET {
                narrow(&field, &mut schema);
            }
            let is_in_path = in_path.contains(&field.as_str());
            if is_in_path || method == Method::GET {
                parameters.push(parameter(&field, schema, is_in_path, required.contains(&field.as_str())));
            } else {
                body.insert(field, schema);
            }
        }
        let problem = self.answered.subschema_for::<Problem>();
        let mut operation = json!({
            "operationId": name,
            "summary": about,
            "parameters": parameters,
            "responses": {
                "200": { "description": "Done", "content": content },
                "default": { "description": "Not done", "content": { MEDIA_TYPE: { "schema": problem } } },
            },
        });
        if !body.is_empty() {
            let needed: Vec<&str> = required.into_iter().filter(|field| body.contains_key(*field)).collect();
            let is_needed = !needed.is_empty();
            let schema = json!({ "type": "object", "properties": body, "required": needed, "additionalProperties": false });
            operation["requestBody"] =
                json!({ "required": is_needed, "content": { "application/json": { "schema": schema } } });
        }
        let path = self.paths.entry(format!("{BASE}{path}")).or_insert_with(|| json!({}));
        path[method.as_str().to_ascii_lowercase()] = operation;
    }

    /// Returns the whole document.
    pub(crate) fn finish(mut self) -> Value {
        let mut schemas = self.taken.take_definitions(true);
        for (name, schema) in self.answered.take_definitions(true) {
            let taken = schemas.insert(name, schema.clone());
            debug_assert!(taken.is_none_or(|taken| taken == schema), "taken and answered differ: {schema}");
        }
        json!({
            "openapi": "3.1.0",
            "info": { "title": "Quorate", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT },
            "security": [{ "token": [] }, {}],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer",
                    "description": "An agent's own token (QUORATE_TOKEN), or the person's; not needed on loopback" } },
            },
        })
    }
}

fn parameter(name: &str, mut schema: Value, is_in_path: bool, is_required: bool) -> Value {
    let about = schema.as_object_mut().and_then(|map| map.remove("description"));
    let is_list = schema.get("type").is_some_and(|kind| kind == "array");
    let mut parameter = json!({
        "name": name,
        "in": if is_in_path { "path" } else { "query" },
        "required": is_in_path || is_required,
        "schema": schema,
    });
    if let Some(about) = about {
        parameter["description"] = about;
    }
    if is_list {
        parameter["explode"] = false.into();
    }
    parameter
}
