//! Makes JSON of openapi.yaml, in its own order, and embeds it.

use std::{error::Error, fs};

use serde::de::Error as _;
use serde_json::{Serializer, Value};

#[path = "../../../shared/lambda/embed.rs"]
mod embed;

use embed::File;

const CONTRACT: &str = "../../../openapi.yaml";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../../shared/lambda/embed.rs");
    println!("cargo::rerun-if-changed={CONTRACT}");
    let yaml = fs::read_to_string(CONTRACT)?;
    let mut json = Vec::new();
    // As YAML 1.2 has it (10.3.2), `yes` and `no` are words.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::with_deserializer_from_str_with_options(&yaml, options, |yaml| {
        serde_transcode::transcode(yaml, &mut Serializer::new(&mut json)).map_err(serde_saphyr::Error::custom)
    })?;
    let version = env!("CARGO_PKG_VERSION");
    if serde_json::from_slice::<Value>(&json)?["info"]["version"] != version {
        return Err(format!("info.version of openapi.yaml is not the workspace's, {version}").into());
    }
    Ok(embed::embed(&[File {
        name: "openapi.json".to_owned(),
        content_type: "application/json",
        content: json,
    }])?)
}
