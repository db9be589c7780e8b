//! A remote store behind the local one: a bucket that speaks S3, with objects under the same names.
//!
//! The object of a digest is at `PREFIX/objects/ab/cdef…`, as in the local folder, so that a folder copied
//! into a bucket is a remote store. What is there is not trusted: an object is taken only if its bytes are
//! those that its digest names.

pub(crate) mod fetch;
mod location;
mod upload;

use crate::{digest::to_hex, error::StoreError};
use location::{is_plain, Location};
use object_store::{
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path as Key,
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
};
use openledger_primitives::Digest;
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::runtime::{Builder, Handle, Runtime};

pub use fetch::FetchError;

/// How a remote store is reached.
#[derive(Clone)]
pub struct RemoteOptions {
    /// `s3://BUCKET/PREFIX`.
    pub url: String,
    /// `https://…`, or `http://` on this machine; none for the one that the environment names, else AWS.
    pub endpoint: Option<String>,
    /// Variables that begin with `AWS_`: credentials, region and the like.
    pub environment: Vec<(String, String)>,
    /// How long a download may take beside the time for its bytes, its retries included.
    pub patience: Duration,
    /// How long a connection may be silent.
    pub stall: Duration,
    /// How often a request is tried again, after waits that double.
    pub retries: usize,
    /// Downloads at once.
    pub downloads: usize,
}

impl RemoteOptions {
    /// The usual ones, with the variables of this process.
    pub fn new(url: impl Into<String>, endpoint: Option<String>) -> Self {
        RemoteOptions {
            url: url.into(),
            endpoint,
            environment: std::env::vars_os()
                .filter_map(|(key, value)| {
                    Some((key.into_string().ok()?, value.into_string().ok()?))
                })
                .filter(|(key, _)| key.starts_with("AWS_"))
                .collect(),
            patience: Duration::from_secs(60),
            stall: Duration::from_secs(10),
            retries: 5,
            downloads: 16,
        }
    }
}

impl fmt::Debug for RemoteOptions {
    /// Without the values of the environment: secrets are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteOptions")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A remote store. Clones share it.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
}

struct Inner {
    url: String,
    prefix: Vec<String>,
    client: Box<dyn ObjectStore>,
    patience: Duration,
    downloads: usize,
    handle: Handle,
    /// Taken when this is dropped, which may be where a runtime must not wait for its threads.
    runtime: Option<Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.inner.url).finish()
    }
}

impl Remote {
    /// Prepares to speak to the remote store; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`StoreError::RemoteAddress`] for an address or settings that cannot be used, [`StoreError::Io`]
    /// when no thread can be started.
    pub fn connect(options: RemoteOptions) -> Result<Self, StoreError> {
        let location = Location::parse(&options.url)?;
        let refuse = |reason: String| StoreError::RemoteAddress {
            address: options.url.clone(),
            reason,
        };
        let mut builder = AmazonS3Builder::new();
        for (key, value) in &options.environment {
            // Variables that mean something else to other programs are passed over.
            if let Ok(key) = key.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(endpoint) = &options.endpoint {
            builder = builder
                .with_endpoint(endpoint)
                .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        let endpoint = builder
            .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
            .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
        let plain = endpoint.as_deref().map_or(Ok(false), is_plain)?;
        // One that a part of this process has chosen already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = builder
            .with_bucket_name(&location.bucket)
            .with_client_options(
                ClientOptions::new()
                    .with_connect_timeout(options.stall)
                    .with_read_timeout(options.stall)
                    // Of a whole answer: it would cut off large objects.
                    .with_timeout_disabled()
                    .with_allow_http(plain),
            )
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(100),
                    max_backoff: Duration::from_secs(5),
                    base: 2.0,
                },
                max_retries: options.retries,
                retry_timeout: options.patience,
            })
            .build()
            .map_err(|error| refuse(said(&error)))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("store-remote")
            .enable_all()
            .build()
            .map_err(crate::error::io("start threads for", &options.url))?;
        Ok(Remote {
            inner: Arc::new(Inner {
                url: options.url,
                prefix: location.prefix,
                client: Box::new(client),
                patience: options.patience,
                downloads: options.downloads.max(1),
                handle: runtime.handle().clone(),
                runtime: Some(runtime),
            }),
        })
    }

    /// `s3://BUCKET/PREFIX`.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    fn key(&self, digest: &Digest) -> Key {
        let name = to_hex(digest);
        let (shelf, rest) = name.split_at(2);
        let prefix = self.inner.prefix.iter().map(String::as_str);
        Key::from_iter(prefix.chain(["objects", shelf, rest]))
    }

    fn client(&self) -> &dyn ObjectStore {
        &*self.inner.client
    }

    /// Waits on this thread, which may be one of another runtime.
    fn wait<T, F>(&self, task: F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (done, result) = std::sync::mpsc::sync_channel(1);
        self.inner.handle.spawn(async move {
            let _ = done.send(task.await);
        });
        // Nothing comes when the task panicked.
        result.recv().ok()
    }
}

/// An error with what it came from.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
