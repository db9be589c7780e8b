//! Where a remote store is: `s3://BUCKET/PREFIX` and an endpoint.

use crate::error::StoreError;
use std::net::IpAddr;

/// A bucket and the prefix of all keys in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) bucket: String,
    /// Names between slashes; none for the bucket itself.
    pub(crate) prefix: Vec<String>,
}

impl Location {
    /// Reads `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// [`StoreError::RemoteAddress`].
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let refuse = |reason: &str| StoreError::RemoteAddress {
            address: url.to_owned(),
            reason: reason.to_owned(),
        };
        let rest = url
            .strip_prefix("s3://")
            .ok_or_else(|| refuse("a remote store is given as s3://BUCKET/PREFIX"))?;
        let mut names = rest.trim_end_matches('/').split('/');
        let bucket = names.next().unwrap_or_default();
        if bucket.is_empty() || bucket.contains(['@', ':', '?', '#']) {
            return Err(refuse("it names no bucket"));
        }
        let prefix: Vec<String> = names.map(str::to_owned).collect();
        let strange = |name: &String| {
            matches!(name.as_str(), "" | "." | "..")
                || name.chars().any(|c| c.is_control() || "?#\\%".contains(c))
        };
        if prefix.iter().any(strange) {
            return Err(refuse("its prefix has a name that keys may not have"));
        }
        Ok(Location {
            bucket: bucket.to_owned(),
            prefix,
        })
    }
}

/// Whether an endpoint is spoken to without TLS, which only this machine's own are.
///
/// # Errors
/// [`StoreError::RemoteAddress`] for an address that is neither `https://` nor `http://` of this machine.
pub(crate) fn is_plain(endpoint: &str) -> Result<bool, StoreError> {
    let refuse = |reason: &str| StoreError::RemoteAddress {
        address: endpoint.to_owned(),
        reason: reason.to_owned(),
    };
    if endpoint.starts_with("https://") {
        return Ok(false);
    }
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return Err(refuse("an endpoint begins with https://"));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_here {
        Ok(true)
    } else {
        Err(refuse(
            "without TLS only an endpoint of this machine is spoken to; use https://",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_should_be_a_bucket_and_names() {
        let parse = |url: &str| {
            let found = Location::parse(url).ok()?;
            Some((found.bucket, found.prefix.join("|")))
        };
        let is = |bucket: &str, prefix: &str| Some((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(parse("s3://models"), is("models", ""));
        assert_eq!(parse("s3://models/"), is("models", ""));
        assert_eq!(parse("s3://models/a/b/"), is("models", "a|b"));
        for wrong in [
            "models",
            "https://models/a",
            "s3://",
            "s3:///a",
            "s3://models//a",
            "s3://models/../a",
            "s3://key:secret@models/a",
            "s3://models/a?versionId=1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn plain_http_should_be_for_this_machine_only() {
        for (endpoint, plain) in [
            ("https://s3.example.org", Some(false)),
            ("http://127.0.0.1:9000", Some(true)),
            ("http://127.8.9.1", Some(true)),
            ("http://[::1]:9000/s3", Some(true)),
            ("http://localhost:9000", Some(true)),
            ("http://10.0.0.1:9000", None),
            ("http://localhost.example.org", None),
            ("http://127.0.0.1.example.org", None),
            ("http://user@example.org", None),
            ("http://localhost@example.org", None),
            ("ftp://127.0.0.1", None),
            ("127.0.0.1:9000", None),
        ] {
            assert_eq!(is_plain(endpoint).ok(), plain, "{endpoint}");
        }
    }
}
