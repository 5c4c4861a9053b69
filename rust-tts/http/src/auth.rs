//! Who a client is: its key, where keys may be carried, and its address.

use std::net::SocketAddr;
use std::path::Path;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::ApiError;
use crate::options::HttpOptions;
use chatterbox_speech::error::{Code, Error};

use crate::state::Shared;

/// Names of the query parameters that carry a key.
pub const QUERY_KEYS: [&str; 2] = ["api_key", "token"];
const HEADERS: [&str; 2] = ["x-api-key", "xi-api-key"];
/// A WebSocket client in a browser can set no header but this.
const SUBPROTOCOL_PREFIX: &str = "api-key.";

type Digest256 = [u8; 32];

/// The configured keys, as digests: neither their text nor their length can leak.
pub struct Keys(Vec<Digest256>);

/// A client, for limits per client: the digest of its key.
#[derive(Clone)]
pub struct ClientKey(pub String);

/// The address of a request's client.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A client: its key, or its address where there is none.
pub fn client_of(peer: Peer, key: Option<Extension<ClientKey>>) -> String {
    key.map_or_else(|| peer.0.ip().to_string(), |Extension(key)| key.0)
}

impl Keys {
    /// Reads keys from the options and the files they name. The error is a sentence that names the setting: one that is
    /// set and has no key in it must not open the server.
    pub fn from_options(options: &HttpOptions) -> Result<Self, String> {
        let mut digests = Vec::new();
        let mut add = |name: &str, keys: &mut dyn Iterator<Item = &str>| {
            let before = digests.len();
            digests.extend(
                keys.map(str::trim)
                    .filter(|key| !key.is_empty())
                    .map(digest),
            );
            if digests.len() == before {
                return Err(format!(
                    "{name} is set, but there is no key in it; set a key, or remove {name}"
                ));
            }
            Ok(())
        };
        for (name, keys) in [
            ("API_KEY", &options.api_key),
            ("API_TOKEN", &options.api_token),
        ] {
            if !keys.is_empty() {
                add(name, &mut keys.iter().map(String::as_str))?;
            }
        }
        for (name, file) in [
            ("API_KEY_FILE", &options.api_key_file),
            ("API_TOKEN_FILE", &options.api_token_file),
        ] {
            let Some(file) = file else { continue };
            if file.is_empty() {
                return Err(format!(
                    "{name} is set, but empty; name a file, or remove {name}"
                ));
            }
            let text = std::fs::read_to_string(Path::new(file))
                .map_err(|error| format!("{name} {file}: {error}"))?;
            add(name, &mut text.split([',', '\n']))?;
        }
        Ok(Self(digests))
    }

    /// For commands that serve nobody.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// No key is configured: every request is let in.
    pub fn open(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with every key, in constant time.
    fn accept(&self, candidate: &str) -> Option<ClientKey> {
        let candidate = digest(candidate);
        let matches = self
            .0
            .iter()
            .fold(Choice::from(0), |found, key| found | key.ct_eq(&candidate));
        bool::from(matches).then(|| ClientKey(hex(&candidate[..8])))
    }
}

fn digest(key: &str) -> Digest256 {
    Sha256::digest(key.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Lets a request pass that carries a key, or any when none is configured.
pub async fn require_key(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !app.keys.open() {
        let carried = carried(request.headers(), request.uri());
        let client = carried.iter().find_map(|key| app.keys.accept(key));
        let client = client.ok_or_else(|| {
            let message = if carried.is_empty() {
                "An API key is needed; send it as `Authorization: Bearer` or `X-API-Key`."
            } else {
                "The API key is not one of this server's."
            };
            Error::new(Code::Unauthorized, message)
        })?;
        request.extensions_mut().insert(client);
    }
    Ok(next.run(request).await)
}

/// Every key that a request carries.
fn carried(headers: &HeaderMap, uri: &Uri) -> Vec<String> {
    let mut keys = Vec::new();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some((scheme, key)) =
        text(header::AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '))
        && scheme.eq_ignore_ascii_case("bearer")
    {
        keys.push(key.trim().to_owned());
    }
    keys.extend(
        HEADERS
            .iter()
            .filter_map(|name| text(name))
            .map(str::to_owned),
    );
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if QUERY_KEYS.contains(&name.as_ref()) {
            keys.push(value.into_owned());
        }
    }
    if let Some(protocol) = key_subprotocol(headers) {
        keys.push(protocol[SUBPROTOCOL_PREFIX.len()..].to_owned());
    }
    keys
}

/// The subprotocol that carries a key. A server has to name the one it chose, or browsers drop the connection.
pub fn key_subprotocol(headers: &HeaderMap) -> Option<String> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut names = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    names
        .find(|name| name.trim().starts_with(SUBPROTOCOL_PREFIX))
        .map(|name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Keys {
        Keys(keys.iter().map(|key| digest(key)).collect())
    }

    #[test]
    fn test_key_is_read_from_every_carrier() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "bearer one".parse().unwrap());
        headers.insert("x-api-key", "two".parse().unwrap());
        headers.insert("xi-api-key", "three".parse().unwrap());
        headers.insert(
            "sec-websocket-protocol",
            "chat, api-key.four".parse().unwrap(),
        );
        let uri: Uri = "/api/tts?a=b&api_key=fi%2Bve&token=six".parse().unwrap();
        let mut found = carried(&headers, &uri);
        found.sort();
        assert_eq!(found, ["fi+ve", "four", "one", "six", "three", "two"]);
    }

    #[test]
    fn test_key_must_match_entirely() {
        let keys = keys(&["secret", "other"]);
        assert!(keys.accept("secret").is_some() && keys.accept("other").is_some());
        for wrong in ["", "secre", "secrets", "Secret", "secret,other"] {
            assert!(keys.accept(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn test_clients_are_distinguished_by_key() {
        let keys = keys(&["a", "b"]);
        assert_ne!(keys.accept("a").unwrap().0, keys.accept("b").unwrap().0);
    }
}
