//! Thousands of connections to the gateway that say nothing.

use crate::scene::Scene;
use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connections that the gateway has room for.
pub const ROOM: &str = "16";

const CROWD: usize = 2_000;

/// They come while an answer is streamed, and harm neither it nor those who ask after.
pub async fn says_nothing(scene: &Scene) {
    let mut body = scene.chat(120);
    body["stream"] = json!(true);
    let request = scene.http.post(scene.url("/v1/chat/completions"));
    let response = request.json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = response.bytes_stream();
    let mut answer = stream.next().await.unwrap().unwrap().to_vec();
    let mut crowd = Vec::new();
    for at in 0..CROWD {
        let mut connection = connect(scene, at).await;
        // Every other begins with headers that never end.
        if at % 2 == 0 {
            let begin = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";
            let _ = connection.write_all(begin).await;
        }
        crowd.push(connection);
    }
    while let Some(piece) = stream.next().await {
        answer.extend_from_slice(&piece.unwrap());
    }
    assert!(answer.ends_with(b"data: [DONE]\n\n"));
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");
    // The first has made room for others, and learns of it.
    let ended = crowd[0].read(&mut [0]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

/// From one of several addresses, so that ports suffice.
async fn connect(scene: &Scene, at: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from = ([127, 0, 0, 2 + (at % 4) as u8], 0);
    socket.bind(from.into()).unwrap();
    socket.connect(scene.address()).await.unwrap()
}
