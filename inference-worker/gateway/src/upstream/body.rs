//! Bodies of a worker's answers, read no further than they may go.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde_json::Value;

/// Bytes of a body that is no stream at most.
pub(super) const MAX_BODY: usize = 256 << 10;

/// Why a body cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// It goes on beyond what may come.
    #[error("sends more than {MAX_BODY} bytes where a short answer was expected")]
    TooLarge,
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
    /// It is not JSON.
    #[error("sends an answer that is not JSON")]
    NotJson,
}

/// Reads a JSON body of at most [`MAX_BODY`] bytes.
pub(super) async fn json<S>(mut body: S) -> Result<Value, BodyError>
where
    S: Stream<Item = reqwest::Result<Bytes>> + Unpin,
{
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| BodyError::Broken(super::describe(&error)))?;
        if bytes.len().saturating_add(piece.len()) > MAX_BODY {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(&piece);
    }
    serde_json::from_slice(&bytes).map_err(|_| BodyError::NotJson)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    #[tokio::test]
    async fn a_body_is_read_only_so_far() {
        let small = stream::iter([Ok(Bytes::from("{\"a\":")), Ok(Bytes::from("1}"))]);
        assert_eq!(json(small).await.unwrap()["a"], 1);
        let endless = stream::repeat_with(|| Ok(Bytes::from(vec![b' '; 4096])));
        assert!(matches!(json(endless).await, Err(BodyError::TooLarge)));
        let page = stream::iter([Ok(Bytes::from("<html>"))]);
        assert!(matches!(json(page).await, Err(BodyError::NotJson)));
    }
}
