//! Who may use the gateway: it spends its owner's money for whoever it answers.
//!
//! A browser sends any page's requests to local addresses. So a request must say that it is JSON, which
//! a page cannot make it do across origins without asking first; its `Origin`, if any, must be the
//! gateway's own; and its `Host` must be a name that the gateway answers to, or a page could bring its
//! own name to point here (DNS rebinding). With an API key none but its holders are answered.

use crate::GatewayError;
use axum::http::{header, HeaderMap, Method};
use openledger_primitives::{hash::blake2_256, Digest};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// Characters of an API key at least.
const MIN_KEY: usize = 16;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The body is not declared as JSON.
    #[error("send the body with the header `content-type: application/json`")]
    NotJson,
    /// A page of another origin sent it.
    #[error("requests of web pages from elsewhere ({0}) are not answered; ask from a program, or from a page behind the gateway's own address")]
    Origin(String),
    /// The gateway does not answer to this name.
    #[error("this gateway does not answer to the host `{0}`; start it with `--allow-host {0}`, or with an API key")]
    Host(String),
    /// There is no key, or a wrong one.
    #[error("this gateway asks for its API key: send it as `authorization: Bearer KEY`")]
    Key,
}

impl Denied {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Denied::NotJson => 415,
            Denied::Origin(_) | Denied::Host(_) => 403,
            Denied::Key => 401,
        }
    }

    /// Machine-readable cause.
    pub fn code(&self) -> &'static str {
        match self {
            Denied::NotJson => "unsupported_media_type",
            Denied::Origin(_) => "foreign_origin",
            Denied::Host(_) => "unknown_host",
            Denied::Key => "invalid_api_key",
        }
    }
}

/// A key that clients send as a bearer token. Only its hash is kept, which makes comparing it take
/// the same time whatever is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ApiKey(Digest);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

impl ApiKey {
    /// The key as its owner wrote it.
    ///
    /// # Errors
    /// [`GatewayError::Setup`] when it is too short or cannot be sent in a header.
    pub fn new(text: &str) -> Result<Self, GatewayError> {
        let text = text.trim();
        if text.len() < MIN_KEY || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(GatewayError::Setup(format!(
                "an API key is one line of at least {MIN_KEY} letters, digits and signs; make one with `openssl rand -hex 32`"
            )));
        }
        Ok(ApiKey(blake2_256(text.as_bytes())))
    }

    /// The key in a file that only its owner can read.
    ///
    /// # Errors
    /// [`GatewayError::Setup`] when there is none.
    pub fn from_file(path: &Path) -> Result<Self, GatewayError> {
        let wrong = |problem: String| {
            GatewayError::Setup(format!("the API key file {}: {problem}", path.display()))
        };
        let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(wrong(format!(
                "others can read it (mode {mode:o}); `chmod 600` it"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        ApiKey::new(&text)
    }

    fn is(&self, sent: &str) -> bool {
        blake2_256(sent.as_bytes()) == self.0
    }
}

/// What requests must satisfy.
#[derive(Clone, Debug)]
pub struct Access {
    listen: IpAddr,
    hosts: Vec<String>,
    key: Option<ApiKey>,
}

impl Access {
    /// For a gateway at `listen` that also answers to `hosts`, and asks for `key` if there is one.
    ///
    /// # Errors
    /// [`GatewayError::Setup`] when others could reach it without a key.
    pub fn new(
        listen: SocketAddr,
        hosts: Vec<String>,
        key: Option<ApiKey>,
    ) -> Result<Self, GatewayError> {
        if !listen.ip().is_loopback() && key.is_none() {
            return Err(GatewayError::Setup(format!(
                "{listen} can be reached from other machines, and whoever reaches the gateway spends from your channel: \
                 name a file with an API key by `--api-key FILE` (or set OPENLEDGER_API_KEY), or listen on 127.0.0.1"
            )));
        }
        Ok(Access {
            listen: listen.ip(),
            hosts,
            key,
        })
    }

    /// Whether a request is answered.
    ///
    /// # Errors
    /// [`Denied`] says why not.
    pub fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Denied> {
        let host = text(headers, header::HOST);
        if let (Some(host), None) = (host, &self.key) {
            if !self.answers_to(name_of(host)) {
                return Err(Denied::Host(name_of(host).to_owned()));
            }
        }
        if headers.contains_key(header::ORIGIN) {
            let origin = text(headers, header::ORIGIN).unwrap_or_default();
            let place = origin.split_once("://").map(|(_, place)| place);
            if place.is_none() || place != host {
                return Err(Denied::Origin(origin.to_owned()));
            }
        }
        // Whether the program lives is no secret.
        if let (Some(key), false) = (&self.key, path == "/health") {
            let sent = text(headers, header::AUTHORIZATION).and_then(bearer);
            if !sent.is_some_and(|sent| key.is(sent)) {
                return Err(Denied::Key);
            }
        }
        if method == Method::POST && !is_json(headers) {
            return Err(Denied::NotJson);
        }
        Ok(())
    }

    fn answers_to(&self, name: &str) -> bool {
        if name.eq_ignore_ascii_case("localhost")
            || self
                .hosts
                .iter()
                .any(|host| host.eq_ignore_ascii_case(name))
        {
            return true;
        }
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() || address == self.listen)
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The name of a `Host` header, without the port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = text(headers, header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn access(listen: &str, key: Option<&str>) -> Result<Access, GatewayError> {
        let key = key.map(|key| ApiKey::new(key).unwrap());
        Access::new(listen.parse().unwrap(), vec!["gateway.lan".into()], key)
    }

    fn post(access: &Access, headers: &[(&'static str, &str)]) -> Result<(), Denied> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        access.check(&Method::POST, "/v1/chat/completions", &headers)
    }

    #[test]
    fn a_program_on_this_machine_is_answered_whatever_key_it_sends() {
        let access = access("127.0.0.1:8080", None).unwrap();
        for host in [
            "127.0.0.1:8080",
            "localhost:8080",
            "[::1]:8080",
            "Gateway.LAN",
        ] {
            let headers = [
                ("host", host),
                ("content-type", "application/json; charset=utf-8"),
                ("authorization", "Bearer anything"),
            ];
            assert_eq!(post(&access, &headers), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_web_page_cannot_spend_the_deposit() {
        let access = access("127.0.0.1:8080", None).unwrap();
        let json = ("content-type", "application/json");
        let host = ("host", "127.0.0.1:8080");
        // What a form or `fetch` without preflight can send.
        for kind in ["text/plain", "application/x-www-form-urlencoded"] {
            let sent = post(&access, &[host, ("content-type", kind)]);
            assert_eq!(sent, Err(Denied::NotJson));
        }
        assert_eq!(post(&access, &[host]), Err(Denied::NotJson));
        for origin in ["https://evil.example", "null", "http://127.0.0.1:3000", ""] {
            let sent = post(&access, &[host, json, ("origin", origin)]);
            assert_eq!(sent, Err(Denied::Origin(origin.into())));
        }
        let own = ("origin", "http://127.0.0.1:8080");
        assert_eq!(post(&access, &[host, json, own]), Ok(()));
        // A page whose name was brought to point here.
        for name in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1"] {
            let sent = post(
                &access,
                &[
                    ("host", &format!("{name}:8080")),
                    json,
                    ("origin", &format!("http://{name}:8080")),
                ],
            );
            assert_eq!(sent, Err(Denied::Host(name.into())));
        }
    }

    #[test]
    fn a_gateway_that_others_can_reach_asks_for_its_key() {
        assert!(access("0.0.0.0:8080", None).is_err());
        assert!(access("192.168.1.5:8080", None).is_err());
        let access = access("0.0.0.0:8080", Some(KEY)).unwrap();
        let host = ("host", "anything.example");
        let json = ("content-type", "application/json");
        for wrong in ["Bearer 0123456789abcdeX", "0123456789abcdef", "Bearer "] {
            let sent = post(&access, &[host, json, ("authorization", wrong)]);
            assert_eq!(sent, Err(Denied::Key));
        }
        assert_eq!(post(&access, &[host, json]), Err(Denied::Key));
        let right = ("authorization", "bearer 0123456789abcdef");
        assert_eq!(post(&access, &[host, json, right]), Ok(()));
        let headers = HeaderMap::new();
        assert!(access.check(&Method::GET, "/ready", &headers).is_err());
        assert!(access.check(&Method::GET, "/health", &headers).is_ok());
    }

    #[test]
    fn a_key_that_is_no_key_is_not_taken() {
        for wrong in [
            "",
            "short",
            "a key with spaces in it",
            "0123456789abcde\u{e9}",
        ] {
            assert!(ApiKey::new(wrong).is_err(), "{wrong}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, format!("{KEY}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(ApiKey::from_file(&path).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(ApiKey::from_file(&path).unwrap(), ApiKey::new(KEY).unwrap());
    }
}
