//! The environment that AWS gives a function, with no more of this machine's in it than a program needs to run.

use std::{collections::BTreeMap, env, net::SocketAddr, path::Path};

use super::fleet::FleetOptions;
use crate::template::model::Function;

/// What of this machine's environment functions get: a function that leans on anything else would fail in the cloud.
const INHERITED: [&str; 7] = [
    "PATH",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LLVM_PROFILE_FILE",
];

/// The variables of one process of `function`, whose Runtime API is at `api`. The function's own win over AWS's, and
/// `extra` over both: it is how `local` points functions at its services.
pub(super) fn variables(
    function: &Function,
    program: &Path,
    api: SocketAddr,
    stream: &str,
    extra: &BTreeMap<String, String>,
    options: &FleetOptions,
) -> BTreeMap<String, String> {
    let task_root = program.parent().unwrap_or(Path::new("/")).display().to_string();
    let aws = [
        ("AWS_LAMBDA_RUNTIME_API", api.to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", function.name.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mib.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", stream.to_owned()),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()),
        ("AWS_LAMBDA_LOG_LEVEL", "INFO".to_owned()),
        ("AWS_REGION", options.region.clone()),
        ("AWS_DEFAULT_REGION", options.region.clone()),
        ("AWS_ACCESS_KEY_ID", "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("LAMBDA_TASK_ROOT", task_root),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
        ("_HANDLER", "bootstrap".to_owned()),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("TZ", ":UTC".to_owned()),
    ];
    let inherited =
        INHERITED.iter().filter_map(|name| env::var(name).ok().map(|value| ((*name).to_owned(), value)));
    inherited
        .chain(aws.into_iter().map(|(name, value)| (name.to_owned(), value)))
        .chain(function.environment.clone())
        .chain(extra.clone())
        .collect()
}
