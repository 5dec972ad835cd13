//! A DynamoDB in this process.
#![allow(dead_code, reason = "each test binary uses some of it")]

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::{
    Client,
    config::{
        ConfigBag, Intercept, Region, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef,
    },
    error::BoxError,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, LocalSecondaryIndex, Projection,
        ProjectionType, ScalarAttributeType,
    },
};
use dynoxide::Database;
use tocsin_adapters::aws;

/// Refuses queries by an empty text, as AWS does: "The `AttributeValue` for a key attribute cannot contain an empty string
/// value". The one in this process takes them.
#[derive(Debug)]
struct NoEmptyText;

impl Intercept for NoEmptyText {
    fn name(&self) -> &'static str {
        "NoEmptyText"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let is_query = request.headers().get("x-amz-target").is_some_and(|target| target.ends_with(".Query"));
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
        if is_query && body.contains(r#"{"S":""}"#) {
            return Err("a query by an empty text".into());
        }
        Ok(())
    }
}

/// A client of a new, empty DynamoDB, with these tables: each with or without a sort key.
pub(crate) async fn storage(tables: &[(&str, bool)]) -> Client {
    let tables: Vec<(&str, &[&str])> = tables
        .iter()
        .map(|(table, sorted)| (*table, if *sorted { &["pk", "sk"][..] } else { &["pk"] }))
        .collect();
    storage_of(&tables).await
}

/// A client of a new, empty DynamoDB, with these tables: each with its keys, and the attribute that an index, which is
/// called as it is, has in the place of the sort key.
pub(crate) async fn storage_of(tables: &[(&str, &[&str])]) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let database = Database::memory().unwrap();
    std::thread::spawn(move || {
        let listener = listener.into_std().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            dynoxide::server::serve_on(listener, database).await;
        });
    });
    let credentials = Credentials::new("test", "test", None, None, "test");
    let config = aws::config()
        .into_builder()
        .region(Region::new("eu-north-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(format!("http://{address}"))
        .build();
    let client = aws::dynamodb(&config);
    let client = Client::from_conf(client.config().to_builder().interceptor(NoEmptyText).build());
    for (table, attributes) in tables {
        let mut request = client.create_table().table_name(*table).billing_mode(BillingMode::PayPerRequest);
        for name in *attributes {
            let definition = AttributeDefinition::builder()
                .attribute_name(*name)
                .attribute_type(ScalarAttributeType::S)
                .build()
                .unwrap();
            request = request.attribute_definitions(definition);
        }
        for (name, kind) in attributes.iter().zip([KeyType::Hash, KeyType::Range]) {
            request = request.key_schema(key(name, kind));
        }
        if let Some(index) = attributes.get(2) {
            let all = Projection::builder().projection_type(ProjectionType::All).build();
            let index = LocalSecondaryIndex::builder()
                .index_name(*index)
                .key_schema(key(attributes[0], KeyType::Hash))
                .key_schema(key(index, KeyType::Range))
                .projection(all)
                .build()
                .unwrap();
            request = request.local_secondary_indexes(index);
        }
        request.send().await.unwrap();
    }
    client
}

fn key(name: &str, kind: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
}
