//! Which function a request belongs to. The most specific route wins, segment by segment: text before a parameter,
//! a parameter before a greedy one, a method before `ANY`.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;
use thiserror::Error;

use crate::template::model::Route;

/// The routes of an HTTP API.
#[derive(Debug, Default)]
pub struct Routes(Node);

#[derive(Debug, Default)]
struct Node {
    texts: BTreeMap<String, Node>,
    parameter: Option<Box<Node>>,
    greedy: BTreeMap<String, Target>,
    targets: BTreeMap<String, Target>,
}

#[derive(Debug)]
struct Target {
    key: String,
    function: String,
    parameters: Vec<String>,
}

/// A route that cannot be served.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RouteError {
    /// Two functions have the same method and path.
    #[error("{key} belongs to {first} and to {second}")]
    Taken {
        /// The route.
        key: String,
        /// The function that has it.
        first: String,
        /// The function that wants it too.
        second: String,
    },
    /// A greedy parameter with something after it.
    #[error("{0}: a greedy parameter must be last")]
    Greedy(String),
}

/// The route of a request.
pub(super) struct Found<'a> {
    pub(super) key: &'a str,
    pub(super) function: &'a str,
    /// Decoded.
    pub(super) parameters: Vec<(&'a str, String)>,
}

impl Routes {
    /// The routes, each with the name of its function.
    pub fn new<'a>(routes: impl IntoIterator<Item = (&'a Route, &'a str)>) -> Result<Self, RouteError> {
        let mut root = Node::default();
        for (route, function) in routes {
            root.insert(route, function)?;
        }
        Ok(Self(root))
    }

    pub(super) fn find(&self, method: &Method, path: &str) -> Option<Found<'_>> {
        let segments: Vec<&str> = segments(path).collect();
        let mut values = Vec::new();
        let target = self.0.find(method.as_str(), &segments, &mut values)?;
        let parameters =
            target.parameters.iter().map(String::as_str).zip(values.iter().map(|value| decode(value)));
        Some(Found { key: &target.key, function: &target.function, parameters: parameters.collect() })
    }
}

impl Node {
    fn insert(&mut self, route: &Route, function: &str) -> Result<(), RouteError> {
        let key = format!("{} {}", route.method, route.path);
        let mut node = self;
        let mut parameters = Vec::new();
        let mut greedy = false;
        for segment in segments(&route.path) {
            if greedy {
                return Err(RouteError::Greedy(key));
            }
            match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
                Some(name) => {
                    greedy = name.ends_with('+');
                    parameters.push(name.trim_end_matches('+').to_owned());
                    if !greedy {
                        node = node.parameter.get_or_insert_default();
                    }
                }
                None => node = node.texts.entry(segment.to_owned()).or_default(),
            }
        }
        let targets = if greedy { &mut node.greedy } else { &mut node.targets };
        if let Some(first) = targets.get(&route.method) {
            return Err(RouteError::Taken {
                key,
                first: first.function.clone(),
                second: function.to_owned(),
            });
        }
        targets.insert(route.method.clone(), Target { key, function: function.to_owned(), parameters });
        Ok(())
    }

    fn find<'a>(
        &self,
        method: &str,
        segments: &[&'a str],
        values: &mut Vec<std::borrow::Cow<'a, str>>,
    ) -> Option<&Target> {
        let [segment, rest @ ..] = segments else { return of(&self.targets, method) };
        if let Some(found) = self.texts.get(*segment).and_then(|node| node.find(method, rest, values)) {
            return Some(found);
        }
        // An empty segment is no value: `/v1/posts/` is not a post.
        if let Some(node) = self.parameter.as_ref().filter(|_| !segment.is_empty()) {
            values.push((*segment).into());
            if let Some(found) = node.find(method, rest, values) {
                return Some(found);
            }
            values.pop();
        }
        let target = of(&self.greedy, method).filter(|_| !segment.is_empty())?;
        values.push(segments.join("/").into());
        Some(target)
    }
}

fn of<'t>(targets: &'t BTreeMap<String, Target>, method: &str) -> Option<&'t Target> {
    targets.get(method).or_else(|| targets.get("ANY"))
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(paths: &[(&str, &str, &str)]) -> Result<Routes, RouteError> {
        let routes: Vec<_> = paths
            .iter()
            .map(|(method, path, function)| {
                (Route { method: (*method).into(), path: (*path).into() }, *function)
            })
            .collect();
        Routes::new(routes.iter().map(|(route, function)| (route, *function)))
    }

    #[test]
    fn the_most_specific_route_wins() {
        let routes = routes(&[
            ("GET", "/v1/posts", "list-posts"),
            ("GET", "/v1/posts/{post_id}", "get-post"),
            ("GET", "/v1/posts/latest", "latest"),
            ("ANY", "/v1/posts/{post_id}/share", "share-any"),
            ("POST", "/v1/posts/{post_id}/share", "share"),
            ("GET", "/{proxy+}", "fallback"),
        ])
        .expect("no conflict");
        let find =
            |method: &Method, path: &str| routes.find(method, path).map(|found| found.function.to_owned());
        for (method, path, function) in [
            (Method::GET, "/v1/posts", Some("list-posts")),
            (Method::GET, "/v1/posts/1", Some("get-post")),
            (Method::GET, "/v1/posts/latest", Some("latest")),
            (Method::POST, "/v1/posts/1/share", Some("share")),
            (Method::PUT, "/v1/posts/1/share", Some("share-any")),
            (Method::GET, "/v1/other/thing", Some("fallback")),
            (Method::POST, "/v1/posts/1", None),
            (Method::HEAD, "/v1/posts", None),
            (Method::POST, "/v1/posts/", None),
        ] {
            assert_eq!(find(&method, path).as_deref(), function, "{method} {path}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_named() {
        let routes =
            routes(&[("GET", "/a/{b}/c/{d}", "f"), ("GET", "/g/{rest+}", "g")]).expect("no conflict");
        let found = routes.find(&Method::GET, "/a/x%20y/c/%C3%A5").expect("found");
        assert_eq!(found.parameters, [("b", "x y".to_owned()), ("d", "å".to_owned())]);
        assert_eq!(found.key, "GET /a/{b}/c/{d}");
        let found = routes.find(&Method::GET, "/g/1/2%2F3").expect("found");
        assert_eq!(found.parameters, [("rest", "1/2/3".to_owned())]);
    }

    #[test]
    fn two_functions_cannot_share_a_route() {
        let taken = routes(&[("GET", "/a/{b}", "first"), ("GET", "/a/{c}", "second")]);
        assert!(matches!(taken, Err(RouteError::Taken { .. })));
        assert!(matches!(routes(&[("GET", "/{a+}/b", "f")]), Err(RouteError::Greedy(_))));
    }
}
