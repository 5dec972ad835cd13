//! The examples of the contract: whoever writes a client copies them, so they are what their schemas say.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// Reads `openapi.yaml`.
pub fn read(root: &Path) -> Result<Value> {
    let yaml = fs::read_to_string(root.join("openapi.yaml"))?;
    // As YAML 1.2 has it (10.3.2), `yes` and `no` are words.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(&yaml, options).context("openapi.yaml cannot be read")
}

/// Holds each example of a contract against its schema; an error names those that are not as it says.
pub fn check(contract: &Value) -> Result<()> {
    let mut examples = Vec::new();
    collect(contract, "", &mut examples);
    let mut wrong = Vec::new();
    for Example { place, schema, value } in examples {
        // A reference is by its place in the contract.
        let schema = json!({"allOf": [schema], "components": contract["components"]});
        let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema);
        let validator = validator.with_context(|| format!("the schema of {place} cannot be read"))?;
        wrong.extend(validator.iter_errors(value).map(|error| format!("{place}: {error}")));
    }
    ensure!(wrong.is_empty(), "examples are not as their schemas say:\n{}", wrong.join("\n"));
    Ok(())
}

/// A value that is given as an example of a schema.
struct Example<'a> {
    place: String,
    schema: &'a Value,
    value: &'a Value,
}

const EXAMPLES: [&str; 2] = ["example", "examples"];

/// The examples of schemas, and those of what has a schema: parameters, headers, and contents.
fn collect<'a>(node: &'a Value, place: &str, found: &mut Vec<Example<'a>>) {
    let schema = node.get("schema").unwrap_or(node);
    let values: Vec<&Value> = match EXAMPLES.map(|name| node.get(name)) {
        [Some(value), _] => vec![value],
        [None, Some(Value::Array(values))] => values.iter().collect(),
        [None, Some(Value::Object(named))] => named.values().filter_map(|one| one.get("value")).collect(),
        _ => Vec::new(),
    };
    found.extend(values.into_iter().map(|value| Example { place: place.to_owned(), schema, value }));
    match node {
        Value::Object(fields) => {
            // What is in an example is no part of the contract's form.
            for (name, node) in fields.iter().filter(|(name, _)| !EXAMPLES.contains(&name.as_str())) {
                collect(node, &format!("{place}/{name}"), found);
            }
        }
        Value::Array(nodes) => {
            for (number, node) in nodes.iter().enumerate() {
                collect(node, &format!("{place}/{number}"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_no_example_is_named() {
        let mut contract = json!({
            "paths": {"/posts": {"get": {"parameters": [
                {"name": "limit", "schema": {"type": "integer"}, "example": 20},
            ], "responses": {"200": {"content": {"application/json": {
                "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Post"}},
                "examples": {"one": {"value": [{"at": "2026-11-21T20:00:00Z"}]}},
            }}}}}}},
            "components": {"schemas": {"Post": {
                "type": "object",
                "additionalProperties": false,
                "properties": {"at": {"type": "string", "format": "date-time"}},
                "examples": [{"at": "2026-11-21T20:00:00Z"}],
            }}},
        });
        check(&contract).unwrap();
        for (place, value) in [
            ("/paths/~1posts/get/parameters/0/example", json!("20")),
            (
                "/paths/~1posts/get/responses/200/content/application~1json/examples/one/value",
                json!([{"by": "ada"}]),
            ),
            ("/components/schemas/Post/examples/0", json!({"at": "yesterday"})),
        ] {
            let right = std::mem::replace(contract.pointer_mut(place).unwrap(), value);
            assert!(check(&contract).is_err(), "{place}");
            *contract.pointer_mut(place).unwrap() = right;
        }
    }
}
