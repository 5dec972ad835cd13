//! Makes JSON of openapi.yaml, in its own order and with the workspace's version, and embeds it.

use std::{env, error::Error, fs};

use saphyr_parser::{Event, Parser, ScalarStyle};

#[path = "../../../shared/lambda/embed.rs"]
mod embed;

use embed::File;

const CONTRACT: &str = "../../../openapi.yaml";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../../shared/lambda/embed.rs");
    println!("cargo::rerun-if-changed={CONTRACT}");
    let yaml = fs::read_to_string(CONTRACT)?;
    let events: Result<Vec<_>, _> =
        Parser::new_from_str(&yaml).map(|event| event.map(|(event, _)| event)).collect();
    let mut nodes = events?.into_iter().filter(|event| !is_frame(event)).collect::<Vec<_>>().into_iter();
    let mut json = String::new();
    write(&mut nodes, &mut Vec::new(), &mut json)?;
    let name = "openapi.json".to_owned();
    Ok(embed::embed(&[File { name, content_type: "application/json", content: json.into_bytes() }])?)
}

/// What is around the one document.
const fn is_frame(event: &Event<'_>) -> bool {
    use Event::{DocumentEnd, DocumentStart, Nothing, StreamEnd, StreamStart};
    matches!(event, StreamStart | StreamEnd | DocumentStart(_) | DocumentEnd | Nothing)
}

/// Writes the next node; `path` is where it stands.
fn write<'a>(
    events: &mut impl Iterator<Item = Event<'a>>,
    path: &mut Vec<String>,
    json: &mut String,
) -> Result<(), Box<dyn Error>> {
    match events.next() {
        Some(event) => write_event(event, events, path, json),
        None => Err("openapi.yaml ends early".into()),
    }
}

fn write_event<'a>(
    event: Event<'a>,
    events: &mut impl Iterator<Item = Event<'a>>,
    path: &mut Vec<String>,
    json: &mut String,
) -> Result<(), Box<dyn Error>> {
    match event {
        Event::MappingStart(..) => {
            json.push('{');
            loop {
                match events.next() {
                    Some(Event::MappingEnd) => break,
                    Some(Event::Scalar(name, ..)) => {
                        comma(json);
                        json.push_str(&serde_json::to_string(&name)?);
                        json.push(':');
                        path.push(name.into_owned());
                        write(events, path, json)?;
                        path.pop();
                    }
                    other => return Err(format!("{other:?} is no key, at {path:?}").into()),
                }
            }
            json.push('}');
        }
        Event::SequenceStart(..) => {
            json.push('[');
            loop {
                match events.next() {
                    Some(Event::SequenceEnd) => break,
                    Some(item) => {
                        comma(json);
                        write_event(item, events, path, json)?;
                    }
                    None => return Err("openapi.yaml ends early".into()),
                }
            }
            json.push(']');
        }
        Event::Scalar(text, style, ..) => {
            let is_version =
                matches!(path.as_slice(), [info, version] if info == "info" && version == "version");
            let text = if is_version { env::var("CARGO_PKG_VERSION")? } else { text.into_owned() };
            let is_plain = style == ScalarStyle::Plain && !is_version;
            match text.as_str() {
                "" | "~" | "null" if is_plain => json.push_str("null"),
                // What JSON reads as a number or a boolean is one in YAML's core schema too (YAML 1.2.2, 10.3.2).
                plain if is_plain && is_json(plain) => json.push_str(plain),
                other => json.push_str(&serde_json::to_string(other)?),
            }
        }
        other => return Err(format!("{other:?} has no form in JSON, at {path:?}").into()),
    }
    Ok(())
}

fn is_json(text: &str) -> bool {
    matches!(text, "true" | "false") || serde_json::from_str::<serde_json::Number>(text).is_ok()
}

fn comma(json: &mut String) {
    if !json.ends_with(['{', '[']) {
        json.push(',');
    }
}
