//! An OpenID provider of the tests' own: real HTTP on this machine, real signatures, codes that are good once, and PKCE that
//! is checked. It does what its test tells it, also what no honest provider would.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]
#![expect(dead_code, reason = "each test file uses its part of this")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine as _, prelude::*};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::town::Town;

/// The client that Tocsin is to it.
pub(crate) const CLIENT_ID: &str = "tocsin-web";
/// The secret that `local` has for it.
pub(crate) const CLIENT_SECRET: &str = local::provision::GOOGLE_CLIENT_SECRET;

/// Keys for these tests alone.
const RSA: &str = include_str!("rsa.pem");
const EC: &str = include_str!("ec.pem");
const STRANGER: &str = include_str!("stranger.pem");

/// A town that knows one provider as Google, and Apple, and an issuer that it trusts.
pub(crate) async fn up() -> (Town, OpenIdProvider) {
    let provider = OpenIdProvider::up().await;
    let trusted = json!([
        {"issuer": "https://another.example", "audiences": ["tocsin"]},
        {"issuer": provider.issuer(), "audiences": ["tocsin", "cognito-client"]},
    ]);
    let town = Town::with(&[
        ("GoogleIssuer", provider.issuer().to_owned()),
        ("GoogleClientId", CLIENT_ID.to_owned()),
        ("AppleIssuer", provider.issuer().to_owned()),
        ("AppleClientIds", "dev.tocsin.app, dev.tocsin.web".to_owned()),
        ("TrustedIssuers", trusted.to_string()),
    ])
    .await;
    (town, provider)
}

/// Claims, with another value of one; null leaves it out.
pub(crate) fn with(claims: &Value, field: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[field] = value;
    claims
}

/// An access token as Cognito makes it: no `aud`, but `client_id` and `token_use`.
pub(crate) fn cognito(subject: &str) -> Value {
    json!({
        "sub": subject, "client_id": "cognito-client", "token_use": "access", "username": "hedy",
        "scope": "aws.cognito.signin.user.admin",
    })
}

/// The provider. Dropping it ends it.
pub(crate) struct OpenIdProvider {
    issuer: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// What the provider counts and is told.
#[derive(Default)]
pub(crate) struct State {
    /// Who is signed in there, as claims of an identity token. None declines.
    pub(crate) person: Option<Value>,
    /// Claims of the next identity tokens that are not what they should be; null leaves one out.
    pub(crate) wrong_claims: Map<String, Value>,
    /// How the next identity tokens are signed.
    pub(crate) signature: Signature,
    /// Whether it publishes its second key.
    pub(crate) has_rotated: bool,
    /// Whether it answers nothing but errors.
    pub(crate) is_down: bool,
    /// How often its description was fetched.
    pub(crate) discoveries: usize,
    /// How often its keys were.
    pub(crate) key_set_fetches: usize,
    /// How often a code was tried.
    pub(crate) exchanges: usize,
    codes: HashMap<String, Code>,
}

/// What a code is good for.
struct Code {
    claims: Value,
    challenge: String,
    redirect_uri: String,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Signature {
    /// With its RSA key.
    #[default]
    Rsa,
    /// With its second key, of an elliptic curve.
    Ec,
    /// With somebody else's key, under the name of its own.
    Stranger,
    /// With a key of a name that nobody knows.
    UnknownKey,
    /// With its public key as a shared secret.
    HmacOfPublicKey,
    /// Not at all.
    None,
}

impl Drop for OpenIdProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OpenIdProvider {
    pub(crate) async fn up() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let (served, at) = (Arc::clone(&state), issuer.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, issuer) = (Arc::clone(&served), at.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let (state, issuer) = (Arc::clone(&state), issuer.clone());
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let request = Request::from_parts(parts, body);
                            Ok::<_, hyper::Error>(answer(&mut state.lock().unwrap(), &issuer, &request))
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { issuer, state, task }
    }

    /// Its address.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What it counts, and can be told.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Signs this person in there, from now on.
    pub(crate) fn signs_in(&self, person: Value) {
        self.state().person = Some(person);
    }

    /// A token with these claims, besides the issuer and times that are good; null leaves one out.
    pub(crate) fn token(&self, claims: &Value, signature: Signature) -> String {
        let all = with_usual_claims(&self.issuer, claims);
        sign(&all, signature)
    }
}

fn answer(state: &mut State, issuer: &str, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    if state.is_down {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/.well-known/openid-configuration") => {
            state.discoveries += 1;
            json_answer(
                StatusCode::OK,
                &json!({
                    "issuer": issuer,
                    "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"),
                    "jwks_uri": format!("{issuer}/keys"),
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    // A careless provider: that it signs so is no reason to believe it.
                    "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
                }),
            )
        }
        (&Method::GET, "/keys") => {
            state.key_set_fetches += 1;
            json_answer(StatusCode::OK, &json!({"keys": public_keys(state.has_rotated)}))
        }
        (&Method::GET, "/authorize") => authorize(state, issuer, request.uri().query().unwrap_or_default()),
        (&Method::POST, "/token") => exchange(state, issuer, request),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// RFC 6749, 4.1.1, as a browser sees it in which the person is signed in already.
fn authorize(state: &mut State, issuer: &str, query: &str) -> Response<Full<Bytes>> {
    let asked: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let is = |name: &str, value: &str| asked.get(name).is_some_and(|given| given == value);
    let scopes: Vec<&str> = asked["scope"].split(' ').collect();
    let is_sound = is("client_id", CLIENT_ID)
        && is("response_type", "code")
        && is("code_challenge_method", "S256")
        && ["openid", "email", "profile"].iter().all(|scope| scopes.contains(scope))
        && asked["nonce"].len() >= 43
        && asked["state"].len() >= 43
        && asked["code_challenge"].len() == 43;
    if !is_sound {
        return status(StatusCode::BAD_REQUEST);
    }
    let mut back = form_urlencoded::Serializer::new(String::new());
    back.append_pair("state", &asked["state"]);
    match &state.person {
        None => drop(back.append_pair("error", "access_denied")),
        Some(person) => {
            let code = format!("4/{}", uuid::Uuid::new_v4());
            let mut claims = person.clone();
            claims["nonce"] = json!(asked["nonce"]);
            claims["aud"] = json!(CLIENT_ID);
            let good_for = Code {
                claims,
                challenge: asked["code_challenge"].clone(),
                redirect_uri: asked["redirect_uri"].clone(),
            };
            back.append_pair("code", &code);
            // Google adds what the standard does not name.
            back.append_pair("iss", issuer).append_pair("scope", "email openid").append_pair("authuser", "0");
            state.codes.insert(code, good_for);
        }
    }
    let location = format!("{}?{}", asked["redirect_uri"], back.finish());
    let mut answer = status(StatusCode::FOUND);
    answer.headers_mut().insert(header::LOCATION, location.parse().unwrap());
    answer
}

/// RFC 6749, 4.1.3, with RFC 7636, 4.6.
fn exchange(state: &mut State, issuer: &str, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    state.exchanges += 1;
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}")));
    if request.headers().get(header::AUTHORIZATION).is_none_or(|given| *given != *expected) {
        return json_answer(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"}));
    }
    let asked: HashMap<_, _> = form_urlencoded::parse(request.body()).into_owned().collect();
    let refused = || json_answer(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant"}));
    // Whoever brings it, it is used up.
    let Some(code) = asked.get("code").and_then(|code| state.codes.remove(code)) else { return refused() };
    let verifier = asked.get("code_verifier").map(String::as_str).unwrap_or_default();
    if asked.get("grant_type").is_none_or(|grant| grant != "authorization_code")
        || BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) != code.challenge
        || asked.get("redirect_uri") != Some(&code.redirect_uri)
    {
        return refused();
    }
    let mut claims = code.claims;
    for (name, value) in &state.wrong_claims {
        claims[name] = value.clone();
    }
    let token = sign(&with_usual_claims(issuer, &claims), state.signature);
    let tokens = json!({"access_token": "at", "token_type": "Bearer", "expires_in": 3600, "id_token": token});
    json_answer(StatusCode::OK, &tokens)
}

fn with_usual_claims(issuer: &str, claims: &Value) -> Value {
    let now = jiff::Timestamp::now().as_second();
    let mut all = json!({"iss": issuer, "iat": now, "exp": now + 3_600});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    all
}

fn key(pem: &str, algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
        _ => EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
    }
}

fn public_key(pem: &str, algorithm: Algorithm, id: &str) -> Value {
    let mut public = Jwk::from_encoding_key(&key(pem, algorithm), algorithm).unwrap();
    public.common.key_id = Some(id.to_owned());
    let mut public = serde_json::to_value(public).unwrap();
    public["use"] = json!("sig");
    public
}

fn public_keys(has_rotated: bool) -> Vec<Value> {
    let mut keys = vec![
        // One for another purpose, and one of a kind that nobody knows yet, as providers may have.
        json!({"kty": "RSA", "kid": "for-encryption", "use": "enc", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "LATTICE", "kid": "of-tomorrow"}),
        public_key(RSA, Algorithm::RS256, "first"),
    ];
    if has_rotated {
        keys.push(public_key(EC, Algorithm::ES256, "second"));
    }
    keys
}

fn sign(claims: &Value, signature: Signature) -> String {
    let header = |algorithm, id: &str| Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
    let signed = |header: &Header, key: &EncodingKey| jsonwebtoken::encode(header, claims, key).unwrap();
    match signature {
        Signature::Rsa => signed(&header(Algorithm::RS256, "first"), &key(RSA, Algorithm::RS256)),
        Signature::Ec => signed(&header(Algorithm::ES256, "second"), &key(EC, Algorithm::ES256)),
        Signature::Stranger => signed(&header(Algorithm::RS256, "first"), &key(STRANGER, Algorithm::RS256)),
        Signature::UnknownKey => {
            signed(&header(Algorithm::RS256, "unknown"), &key(STRANGER, Algorithm::RS256))
        }
        Signature::HmacOfPublicKey => {
            let modulus = public_key(RSA, Algorithm::RS256, "first")["n"].as_str().unwrap().to_owned();
            let secret = BASE64_URL_SAFE_NO_PAD.decode(modulus).unwrap();
            signed(&header(Algorithm::HS256, "first"), &EncodingKey::from_secret(&secret))
        }
        Signature::None => {
            let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT", "kid": "first"})), part(claims))
        }
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn json_answer(code: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut answer = status(code);
    answer.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    *answer.body_mut() = Full::new(body.to_string().into());
    answer
}
