//! The OpenAI-compatible API, paid by vouchers.

pub mod completions;
pub mod error;
pub mod status;

use crate::serve::Service;
use axum::{
    extract::Request,
    http::Method,
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
    Router,
};
use error::ApiError;
use openledger_openai::limits::BODY_BYTES;
use std::time::Duration;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The routes.
pub fn router(service: Service) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::text))
        .route_layer(middleware::from_fn(read))
        .route("/v1/models", get(status::models))
        .route(
            "/openledger/channels/{channel}/lanes/{lane}",
            get(status::lane),
        )
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .fallback(status::nothing_here)
        .with_state(service)
}

/// What there is while the model is being loaded. A gateway that asks where a lane stands is told to wait: it
/// may not take "nothing here" for an answer.
pub fn loading() -> Router {
    openledger_serving::loading(None).route("/openledger/{*path}", get(status::loading))
}

/// Reads the body within its bounds, and only of who sends something that looks like a voucher: whether it
/// is one for this body can be known only after.
async fn read(request: Request, next: Next) -> Result<Response, ApiError> {
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    completions::payment(request.headers())?;
    let request = openledger_http::read(request, BODY_BYTES, BODY_TIMEOUT).await?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_http::{Front, Limits};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    #[tokio::test]
    async fn a_body_is_waited_for_only_of_who_sends_a_voucher() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/v1/completions", post(|| async { "answered" }))
            .route_layer(middleware::from_fn(read));
        let front = Front::new(listener, Limits::default(), Router::new());
        let serving = tokio::spawn(front.serve(routes, std::future::pending()));
        let mut socket = TcpStream::connect(address).await.unwrap();
        // Most of the body never comes.
        let request = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n{";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(BODY_TIMEOUT / 2, socket.read_exact(&mut answer));
        read.await.expect("it is answered at once").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 402");
        serving.abort();
    }
}
