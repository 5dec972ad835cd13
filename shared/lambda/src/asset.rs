//! Files that are part of a program, made by its build script with `embed.rs`: plain and gzipped, with their hash.

use crate::{
    request::Request,
    response::{Caching, Response, is_known},
};

/// A file.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub content_type: &'static str,
    /// Its content.
    pub plain: &'static [u8],
    /// Its content, gzipped.
    pub gzip: &'static [u8],
    /// A hash of its content.
    pub hash: &'static str,
}

impl Asset {
    /// The file, gzipped where the client takes that, and 304 where it has it already.
    #[must_use]
    pub fn answer(&self, request: &Request, caching: Caching) -> Response {
        let gzip = request.header("accept-encoding").is_some_and(takes_gzip);
        // RFC 9110, 8.8.3.3: a strong tag tells encodings apart.
        let tag = format!("\"{}{}\"", self.hash, if gzip { "-gzip" } else { "" });
        let response = match gzip {
            _ if is_known(request, &tag) => Response::empty(http::StatusCode::NOT_MODIFIED),
            true => Response::bytes(self.content_type, self.gzip).with("content-encoding", "gzip"),
            false => Response::bytes(self.content_type, self.plain),
        };
        response.with("etag", tag).with("cache-control", caching.header()).with("vary", "accept-encoding")
    }
}

fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().trim_start_matches("q=").parse::<f32>().is_ok_and(|weight| weight <= 0.0);
        matches!(name.trim(), "gzip" | "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::request::tests::request;

    const ASSET: Asset =
        Asset { name: "a.css", content_type: "text/css", plain: b"plain", gzip: b"zipped", hash: "1f" };

    fn answer(headers: &Value) -> Value {
        let answer = ASSET.answer(&request(json!({"headers": headers})), Caching::Public(60));
        serde_json::to_value(answer).unwrap()
    }

    #[test]
    fn the_encoding_is_the_clients_choice() {
        for takes in ["gzip", "br, gzip;q=0.8", "*"] {
            assert_eq!(
                answer(&json!({"accept-encoding": takes}))["headers"]["content-encoding"],
                "gzip",
                "{takes}"
            );
        }
        for refuses in ["", "br", "gzip;q=0"] {
            let plain = answer(&json!({"accept-encoding": refuses}));
            assert_eq!(
                (&plain["headers"]["content-encoding"], &plain["body"]),
                (&Value::Null, &json!("cGxhaW4="))
            );
        }
    }

    #[test]
    fn a_known_file_is_not_sent_again() {
        let headers = json!({"accept-encoding": "gzip", "if-none-match": "\"1f-gzip\""});
        assert_eq!(answer(&headers)["statusCode"], 304);
        assert_eq!(answer(&json!({"if-none-match": "\"1f-gzip\""}))["statusCode"], 200);
    }
}
