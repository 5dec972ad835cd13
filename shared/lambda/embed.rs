//! For build scripts: makes files part of a program, plain and gzipped, as `tocsin_lambda::asset::Asset`s.
//!
//! It is included by path, so that no function links what only its build needs.

use std::{
    env, fs,
    hash::{DefaultHasher, Hasher as _},
    io::{self, Write as _},
    path::PathBuf,
};

use flate2::{Compression, write::GzEncoder};

/// A file to embed.
pub(crate) struct File {
    /// Its name.
    pub(crate) name: String,
    /// Its type.
    pub(crate) content_type: &'static str,
    /// Its content.
    pub(crate) content: Vec<u8>,
}

/// Writes `assets.rs` into `OUT_DIR`: `const ASSETS: [Asset; …]`.
pub(crate) fn embed(files: &[File]) -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    let mut assets = format!("const ASSETS: [Asset; {}] = [\n", files.len());
    for File { name, content_type, content } in files {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(content)?;
        fs::write(out.join(name), content)?;
        fs::write(out.join(format!("{name}.gz")), gzip.finish()?)?;
        // Tells versions apart, no more: nobody gains by a collision of our own files.
        let mut hasher = DefaultHasher::new();
        hasher.write(content);
        let (hash, dir) = (hasher.finish(), r#"env!("OUT_DIR"), "/"#);
        let asset = format!(
            "    Asset {{ name: {name:?}, content_type: {content_type:?}, hash: \"{hash:016x}\",\n        \
             plain: include_bytes!(concat!({dir}{name}\")),\n        \
             gzip: include_bytes!(concat!({dir}{name}.gz\")) }},\n"
        );
        assets.push_str(&asset);
    }
    assets.push_str("];\n");
    fs::write(out.join("assets.rs"), assets)
}
