//! Resources: a text, an image, and those of a template.

use crate::content::{IMAGE, typed};
use rmcp::model::{
    ErrorData, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents, ResourceTemplate,
};
use serde_json::json;

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";

pub fn list() -> Vec<Resource> {
    typed(json!([
        { "uri": TEXT, "name": "static-text", "description": "A text", "mimeType": "text/plain" },
        { "uri": BINARY, "name": "static-binary", "description": "An image", "mimeType": "image/png" },
    ]))
}

pub fn templates() -> Vec<ResourceTemplate> {
    typed(json!([
        { "uriTemplate": "test://template/{id}/data", "name": "template", "description": "Data of an id",
          "mimeType": "application/json" },
    ]))
}

pub fn read(uri: &str) -> Result<ReadResourceResponse, ErrorData> {
    let content = match uri {
        TEXT => ResourceContents::text("This is the content of the static text resource.", uri),
        BINARY => ResourceContents::blob(IMAGE, uri).with_mime_type("image/png"),
        _ => of_template(uri).ok_or_else(|| {
            ErrorData::resource_not_found("there is no such resource", Some(json!({ "uri": uri })))
        })?,
    };
    Ok(ReadResourceResult::new(vec![content]).into())
}

fn of_template(uri: &str) -> Option<ResourceContents> {
    let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
    let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
    Some(ResourceContents::text(data.to_string(), uri).with_mime_type("application/json"))
}
