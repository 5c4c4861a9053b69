//! Which web pages may call this server, and under which names it may be reached.
//!
//! A server without a key is protected by where it listens, and the browsers of the people there are inside of that:
//! what a page of another origin asks of it is refused, and so is a name that somebody else's DNS resolves to it.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use chatterbox_speech::error::{Code, Error};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use crate::error::{ApiError, SHOULD_RETRY};
use crate::observe;
use crate::options::HttpOptions;
use crate::routes::{answer, health};
use crate::state::Shared;

/// Pages that a link on another page may open.
const PAGES: [&str; 2] = ["/", "/docs"];
/// Origins of pages that this machine serves itself, on any port.
const LOOPBACK_PAGES: [&str; 3] = ["http://localhost", "http://127.0.0.1", "http://[::1]"];

/// One value of `CORS_ORIGINS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigin {
    /// `*`
    Any,
    /// An origin as browsers write it.
    Page(String),
    /// `null`, which any sandboxed page says of itself, or an empty value.
    Nobody,
}

impl CorsOrigin {
    /// Reads a value, in upper or lower case and with or without a slash at its end.
    ///
    /// # Errors
    ///
    /// What is wrong with a value that no browser would send.
    pub fn parse(value: &str) -> Result<Self, String> {
        let value = value.trim().to_ascii_lowercase();
        if value == "*" {
            return Ok(Self::Any);
        }
        if value.is_empty() || value == "null" {
            return Ok(Self::Nobody);
        }
        let expected = || "expected *, or origins such as https://page.example:8443".to_owned();
        let (scheme, rest) = value.split_once("://").ok_or_else(expected)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err("an origin has no path".to_owned());
        }
        let is_scheme = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let authority = Host::parse(rest).filter(|_| is_scheme);
        let authority = authority.ok_or_else(expected)?.without_default_port(scheme);
        Ok(Self::Page(format!("{scheme}://{authority}")))
    }
}

/// Reads a value of `ALLOWED_HOSTS`.
///
/// # Errors
///
/// The value is no name of a host alone.
pub fn host_name(value: &str) -> Result<String, String> {
    let value = value.trim();
    match Host::parse(value) {
        Some(host) if host.port.is_none() => Ok(host.name),
        _ if value.is_empty() => Ok(String::new()),
        _ => Err("expected names of hosts, without scheme, port or path".to_owned()),
    }
}

/// The host that a request is for, or that an origin is of.
struct Host {
    /// In lower case, without the dot of the root.
    name: String,
    port: Option<u16>,
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let name = authority.host().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
        let port = match text.get(authority.host().len()..)? {
            "" => None,
            rest => Some(rest.strip_prefix(':')?.parse().ok()?),
        };
        let is_name = !name.is_empty() && !name.contains(['*', '%']);
        is_name.then_some(Self { name, port })
    }

    /// The scheme's default port.
    fn without_default_port(&self, scheme: &str) -> String {
        match (scheme, self.port) {
            (_, None) | ("http", Some(80)) | ("https", Some(443)) => self.name.clone(),
            (_, Some(port)) => format!("{}:{port}", self.name),
        }
    }

    fn is_ip(&self) -> bool {
        let address = self.name.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
    }

    fn is_loopback(&self) -> bool {
        let address = self.name.trim_start_matches('[').trim_end_matches(']');
        let address = address.parse::<IpAddr>();
        self.is_loopback_name() || address.is_ok_and(|address| address.is_loopback())
    }

    fn is_loopback_name(&self) -> bool {
        self.name == "localhost" || self.name.ends_with(".localhost")
    }
}

/// Decides by the headers that browsers set and pages cannot.
pub struct OriginPolicy {
    has_key: bool,
    /// Every page may call: by `*`, or by default where a key is needed.
    any: bool,
    /// Origins of `CORS_ORIGINS`.
    pages: Vec<String>,
    /// Names of this server, beside addresses and loopback names.
    hosts: Vec<String>,
}

impl OriginPolicy {
    pub fn new(options: &HttpOptions, has_key: bool) -> Self {
        let values = &options.cors_origins;
        let any = values.contains(&CorsOrigin::Any) || (values.is_empty() && has_key);
        if any && !has_key {
            tracing::warn!(
                "CORS_ORIGINS is * and no API_KEY is set: every web page may use this server"
            );
        }
        let pages = values.iter().filter_map(|value| match value {
            CorsOrigin::Page(origin) => Some(origin.clone()),
            CorsOrigin::Any | CorsOrigin::Nobody => None,
        });
        let listens = options.host.as_deref().and_then(Host::parse);
        let listens = listens.into_iter().map(|host| host.name);
        let hosts = options.allowed_hosts.iter().cloned();
        Self {
            has_key,
            any,
            pages: pages.collect(),
            hosts: hosts.chain(listens).chain(machine_names()).collect(),
        }
    }

    /// Whether a page of this origin may call a server that it reaches as `host`.
    fn allows(&self, origin: &HeaderValue, host: Option<&Host>) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let is_loopback = |page: &&str| {
            let port = origin.strip_prefix(*page);
            port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
        };
        let is_same = |host: &Host| {
            let (scheme, authority) = origin.split_once("://").unwrap_or_default();
            matches!(scheme, "http" | "https") && host.without_default_port(scheme) == authority
        };
        self.any
            || self.pages.iter().any(|page| page == origin)
            || host.is_some_and(is_same)
            || (!self.has_key && LOOPBACK_PAGES.iter().any(is_loopback))
    }

    /// Refuses what no page of this server, no listed page and no program sends.
    fn check(&self, request: &Request) -> Result<(), Error> {
        let (headers, uri) = (request.headers(), request.uri());
        let host = requested_host(headers, uri.authority(), request.version())?;
        let is_websocket = headers
            .get(header::UPGRADE)
            .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        // A page that has the key may do what its bearer may; what it reads is for CORS, which sockets know nothing of.
        if health::PATHS.contains(&uri.path()) || (self.has_key && !is_websocket) {
            return Ok(());
        }
        if let Some(host) = host.as_ref().filter(|host| !self.is_own(host)) {
            let name = &host.name;
            let message = format!(
                "This server does not go by the name {name}; add it to ALLOWED_HOSTS, or set API_KEY."
            );
            return Err(Error::new(Code::UnknownHost, message));
        }
        let may_call = match headers.get(header::ORIGIN) {
            Some(origin) => self.allows(origin, host.as_ref()),
            None => self.any || !is_foreign(headers, host.as_ref()) || is_link_to_page(request),
        };
        if may_call {
            return Ok(());
        }
        Err(Error::new(
            Code::ForbiddenOrigin,
            "Pages of this origin may not call this server; add the origin to CORS_ORIGINS, or set API_KEY.",
        ))
    }

    fn is_own(&self, host: &Host) -> bool {
        self.has_key || host.is_ip() || host.is_loopback_name() || self.hosts.contains(&host.name)
    }
}

/// The layer that tells browsers which pages may read answers. Never with credentials: every request carries its key
/// itself.
pub fn cors(app: &Shared) -> CorsLayer {
    let exposed = answer::AUDIO_HEADERS.into_iter().chain([
        observe::REQUEST_ID,
        SHOULD_RETRY,
        header::RETRY_AFTER,
    ]);
    let allowed = if app.origins.any {
        AllowOrigin::any()
    } else {
        let app = Shared::clone(app);
        AllowOrigin::predicate(move |origin: &HeaderValue, request: &Parts| {
            let host = requested_host(&request.headers, request.uri.authority(), request.version);
            host.is_ok_and(|host| app.origins.allows(origin, host.as_ref()))
        })
    };
    CorsLayer::new()
        .allow_methods(Any)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.collect::<Vec<_>>())
        .allow_origin(allowed)
}

/// The layer that checks every request.
pub async fn check(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    app.origins.check(&request)?;
    Ok(next.run(request).await)
}

/// The host that a request names: in its target, or in its one `Host`. Clients of HTTP/1.0 need not name any.
fn requested_host(
    headers: &HeaderMap,
    target: Option<&Authority>,
    version: Version,
) -> Result<Option<Host>, Error> {
    let mut named = headers.get_all(header::HOST).iter();
    let invalid = |message| Error::new(Code::BadRequest, message);
    let text = match (named.next(), named.next()) {
        (_, Some(_)) => return Err(invalid("The request has more than one Host header.")),
        (None, _) if version == Version::HTTP_11 => {
            return Err(invalid("The request has no Host header."));
        }
        (host, _) => match (target, host) {
            (Some(target), _) => target.as_str(),
            (None, None) => return Ok(None),
            (None, Some(host)) => host.to_str().unwrap_or_default(),
        },
    };
    let host = Host::parse(text).ok_or_else(|| invalid("The Host header names no host."))?;
    Ok(Some(host))
}

/// Sent by a page that is not this server's, as far as browsers tell: a site is all ports and subdomains of a name, and
/// only the pages of this machine are trusted on its other ports.
fn is_foreign(headers: &HeaderMap, host: Option<&Host>) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.any(|site| match site.as_bytes() {
        b"same-origin" | b"none" => false,
        b"same-site" => !host.is_some_and(Host::is_loopback),
        _ => true,
    })
}

/// A page of this server opened from another one: it reads nothing, and its own requests are of the same origin.
fn is_link_to_page(request: &Request) -> bool {
    [Method::GET, Method::HEAD].contains(request.method())
        && PAGES.contains(&request.uri().path())
        && has(request.headers(), "sec-fetch-mode", "navigate")
}

fn has(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found == value)
}

/// The name of this machine, as it is, without its domain, and as its own network resolves it.
fn machine_names() -> Vec<String> {
    let name = sysinfo::System::host_name().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let first = name.split('.').next().unwrap_or_default();
    if first.is_empty() {
        return Vec::new();
    }
    let (first, local) = (first.to_owned(), format!("{first}.local"));
    vec![name, first, local]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(has_key: bool, pages: &[&str]) -> OriginPolicy {
        OriginPolicy {
            has_key,
            any: false,
            pages: pages.iter().map(|&page| page.to_owned()).collect(),
            hosts: vec!["box".into()],
        }
    }

    #[test]
    fn test_cors_origins_are_normalised_or_refused() {
        for (value, page) in [
            ("HTTPS://Page.Example/", "https://page.example"),
            ("http://a.example:80", "http://a.example"),
            ("https://a.example:443/", "https://a.example"),
            ("http://a.example:8080", "http://a.example:8080"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ] {
            let expected = Ok(CorsOrigin::Page(page.to_owned()));
            assert_eq!(CorsOrigin::parse(value), expected, "{value}");
        }
        assert_eq!(CorsOrigin::parse(" * "), Ok(CorsOrigin::Any));
        for nobody in ["null", "", " "] {
            assert_eq!(CorsOrigin::parse(nobody), Ok(CorsOrigin::Nobody));
        }
        for wrong in [
            "page.example",
            "https://",
            "https://a.example/path",
            "https://a.example//",
            "https://a.example?x",
            "https://*.example",
            "https://user@a.example",
            "https://a.example:port",
            "ht tp://a.example",
        ] {
            assert!(CorsOrigin::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn test_allowed_hosts_are_names_alone() {
        assert_eq!(host_name("TTS.Example."), Ok("tts.example".into()));
        assert_eq!(host_name(" "), Ok(String::new()));
        for wrong in ["http://a.example", "a.example:80", "a/b", "*", "*.example"] {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn test_origins_that_look_like_allowed_ones_are_foreign() {
        let host = Host::parse("192.168.0.9:8081");
        let allows = |policy: &OriginPolicy, origin: &str| {
            policy.allows(&origin.parse().unwrap(), host.as_ref())
        };
        let open = policy(false, &["https://page.example"]);
        for origin in [
            "https://page.example",
            "http://192.168.0.9:8081",
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:8000",
            "http://[::1]:5173",
        ] {
            assert!(allows(&open, origin), "{origin}");
        }
        for origin in [
            "https://page.example.evil.example",
            "http://page.example",
            "https://page.example:8443",
            "http://192.168.0.9",
            "http://192.168.0.9:8080",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "null",
            "*",
            "",
            "file://",
        ] {
            assert!(!allows(&open, origin), "{origin}");
        }
        let keyed = policy(true, &["https://page.example"]);
        assert!(allows(&keyed, "https://page.example"));
        assert!(!allows(&keyed, "http://localhost:3000"));
    }

    #[test]
    fn test_default_ports_are_no_part_of_origin() {
        let policy = policy(false, &[]);
        for (host, origin) in [
            ("tts.example", "https://tts.example"),
            ("TTS.example:443", "https://tts.example"),
            ("tts.example:80", "http://tts.example"),
        ] {
            let host = Host::parse(host);
            assert!(policy.allows(&origin.parse().unwrap(), host.as_ref()));
        }
    }

    #[test]
    fn test_own_hosts_are_addresses_loopback_and_known_names() {
        let policy = policy(false, &[]);
        for own in [
            "127.0.0.1:8081",
            "192.168.0.9",
            "[fd00::1]:8081",
            "localhost:1",
            "a.localhost",
            "LOCALHOST.",
            "box:8081",
        ] {
            assert!(policy.is_own(&Host::parse(own).unwrap()), "{own}");
        }
        for foreign in [
            "evil.example",
            "box.evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
        ] {
            assert!(!policy.is_own(&Host::parse(foreign).unwrap()), "{foreign}");
        }
    }
}
