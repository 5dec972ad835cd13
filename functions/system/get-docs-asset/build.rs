//! Takes what the page loads out of the archive of Swagger UI, and embeds it.

use std::{
    error::Error,
    fs,
    io::{self, Cursor, Read as _},
};

use zip::ZipArchive;

#[path = "../../../shared/lambda/embed.rs"]
mod embed;

use embed::File;

/// Our own, in place of Swagger UI's.
const INITIALIZER: &str = "src/swagger-initializer.js";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../../shared/lambda/embed.rs");
    println!("cargo::rerun-if-changed={INITIALIZER}");
    let mut archive = ZipArchive::new(Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED))?;
    let mut take = |name: &str, content_type| {
        // Each is `swagger-ui-<version>/dist/<name>`.
        let is_it =
            |path: &String| path.ends_with(&format!("/dist/{name}")) && path.matches('/').count() == 2;
        let path = archive.file_names().filter_map(|path| path.ok().map(String::from)).find(is_it);
        let path = path.ok_or_else(|| io::Error::other(format!("the archive has no {name}")))?;
        let mut content = Vec::new();
        archive.by_name(&path)?.read_to_end(&mut content)?;
        Ok::<_, Box<dyn Error>>(File { name: name.to_owned(), content_type, content })
    };
    let files = [
        take("swagger-ui.css", "text/css; charset=utf-8")?,
        take("swagger-ui-bundle.js", SCRIPT)?,
        File {
            name: "swagger-initializer.js".to_owned(),
            content_type: SCRIPT,
            content: fs::read(INITIALIZER)?,
        },
    ];
    Ok(embed::embed(&files)?)
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
