//! The wiring is described four times, for four readers: they say the same.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use local::{
    contract_examples,
    template::{Deployment, Template, Unprovisioned, model::Event},
};

/// A route as a line of text: `GET /v1/posts/{post_id} get-post`.
type Routes = BTreeSet<String>;

#[test]
fn contract_template_watch_routes_and_crates_agree() {
    let template = of_template();
    let routes: Routes = template.values().flatten().cloned().collect();
    assert!(routes.len() > 20, "{routes:?}");
    assert_eq!(of_contract(), routes, "openapi.yaml and template.yaml");
    assert_eq!(of_watch(), routes, "the routes of `cargo lambda watch` and template.yaml");
    let functions: BTreeSet<String> = template.into_keys().collect();
    assert_eq!(crates(), functions, "the crates under functions/ and template.yaml");
}

/// A client refuses what a closed schema does not name.
#[test]
fn a_post_in_a_list_has_all_that_a_post_has() {
    let contract = contract_examples::read(root()).unwrap();
    let fields = |schema: &str| -> BTreeSet<String> {
        contract["components"]["schemas"][schema]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let with = |more: &str| -> BTreeSet<_> { fields("Post").into_iter().chain([more.to_owned()]).collect() };
    assert_eq!(fields("NearbyPost"), with("distance_m"));
    assert_eq!(fields("TimelineItem"), with("because"));
}

/// Policies have no effect on this machine: one that is forgotten would first be noticed in the cloud, by those alone who
/// come with a trusted issuer's token.
#[test]
fn whoever_takes_access_tokens_may_make_people_of_trusted_issuers() {
    let template = fs::read_to_string(root().join("template.yaml")).unwrap();
    // The resources, as they are indented; the keys with which tokens are verified are in the environment.
    let resources: Vec<&str> = template.split("\n\n").collect();
    let takes_tokens = |resource: &&&str| {
        resource.contains("ACCESS_TOKEN_JWKS:")
            && !resource.contains("ACCESS_TOKEN_PRIVATE_KEY:")
            && !resource.contains("Binary: get-jwks")
    };
    let taking: Vec<_> = resources.iter().filter(takes_tokens).collect();
    assert!(taking.len() > 15, "{}", taking.len());
    for resource in taking {
        let policy = "- !If [HasTrustedIssuers, !Ref TrustedCallersPolicy, !Ref AWS::NoValue]";
        assert!(resource.contains(policy), "give it the line `{policy}` under Policies:\n{resource}");
    }
}

/// Each function of the template, with its routes.
fn of_template() -> BTreeMap<String, Routes> {
    let template = Template::read(&root().join("template.yaml")).unwrap();
    let given = [
        "KafkaClusterArn",
        "KafkaClusterName",
        "KafkaBootstrapServers",
        "MailFrom",
        "MailIdentity",
        "AccessTokenIssuer",
    ];
    let given = given.map(|name| (name.to_owned(), "given".to_owned()));
    let parameters = given.into_iter().chain([("Stage".to_owned(), "test".to_owned())]).collect();
    let (stack_name, region, account) = ("tocsin".into(), "eu-north-1".into(), "123456789012".into());
    let app = template.app(&Deployment { stack_name, region, account, parameters }, &Unprovisioned).unwrap();
    let routes = |events: &[Event], name: &str| {
        let http = events.iter().filter_map(|event| match event {
            Event::Http(route) => Some(format!("{} {} {name}", route.method, route.path)),
            _ => None,
        });
        http.collect()
    };
    app.functions
        .iter()
        .map(|function| (function.name.clone(), routes(&function.events, &function.name)))
        .collect()
}

/// The operations of the contract.
fn of_contract() -> Routes {
    let contract = contract_examples::read(root()).unwrap();
    let operations = contract["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
        let operations = operations.as_object().unwrap().iter();
        operations.filter_map(move |(method, operation)| {
            let operation = operation["operationId"].as_str()?;
            Some(format!("{} {path} {operation}", method.to_uppercase()))
        })
    });
    operations.collect()
}

fn of_watch() -> Routes {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let router = manifest["workspace"]["metadata"]["lambda"]["watch"]["router"].as_array().unwrap();
    let lines = router.iter().flat_map(|route| {
        let text = |key: &str| route[key].as_str().unwrap().to_owned();
        let (path, function) = (text("path"), text("function"));
        let methods = route["methods"].as_array().unwrap().clone();
        methods.into_iter().map(move |method| format!("{} {path} {function}", method.as_str().unwrap()))
    });
    lines.collect()
}

/// The packages under functions/, which are named as their folders and have one binary of that name.
fn crates() -> BTreeSet<String> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let functions =
        folders(&root().join("functions")).iter().flat_map(|area| folders(area)).collect::<Vec<_>>();
    let name = |folder: PathBuf| {
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(manifest["package"]["name"].as_str(), Some(name.as_str()));
        assert_eq!(manifest["bin"][0]["name"].as_str(), Some(name.as_str()));
        name
    };
    functions.into_iter().map(name).collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
