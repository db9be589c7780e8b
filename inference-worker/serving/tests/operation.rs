//! Everything around answers: models, embeddings, keys, limits, connections, the end.

mod common;

use base64::{engine::general_purpose::STANDARD, Engine as _};
use common::*;
use openledger_engine::EngineOptions;
use openledger_http::{Front, Limits};
use openledger_serving::{loading, Keys, Options};
use serde_json::{json, Value};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TEXT: &str = "/v1/completions";
const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";

/// Connections treated so.
fn limited(limits: Limits) -> Options {
    Options {
        limits,
        ..Options::default()
    }
}

/// Far longer than anything here takes, and than any machine's hiccup.
const LONG: Duration = Duration::from_secs(600);

/// After so long without what a test waits for, it fails instead of hanging. Shorter than the defaults of
/// what hangs up by itself.
const PATIENCE: Duration = Duration::from_secs(40);

/// Reads until the other side hangs up; gives what came before.
async fn to_the_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut all)).await;
    // It may also be reset, with something of ours unread.
    let _ = read.expect("it is hung up on").is_ok();
    all
}

/// A request whose body begins and does not go on.
async fn slow_body(scene: &Scene, path: &str, header: &str) -> TcpStream {
    let mut socket = TcpStream::connect(scene.address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{header}content-length: 99\r\n\r\n{{"
    );
    let _ = socket.write_all(head.as_bytes()).await;
    socket
}

#[tokio::test]
async fn models_should_be_listed_and_nothing_else_answer_for_them() {
    let scene = Scene::new().await;
    let (status, list) = scene.get("/v1/models").await;
    assert_eq!(status, 200);
    let names: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, [BASE, "blue", "red"]);
    let (_, red) = scene.get("/v1/models/red").await;
    assert_eq!((&red["parent"], &red["id"]), (&json!(BASE), &json!("red")));
    assert_eq!(scene.get("/v1/models/tiny").await.1["parent"], Value::Null);
    assert_eq!(scene.get("/v1/models/green").await.0, 404);
    let mut body = prompt("Hi");
    let mut answers = Vec::new();
    for model in [BASE, "red", "blue"] {
        body["model"] = json!(model);
        answers.push(scene.ok(TEXT, &body).await["choices"][0]["text"].clone());
    }
    assert!(answers[0] != answers[1] && answers[1] != answers[2] && answers[0] != answers[2]);
    for model in ["green", "", "Tiny", "tiny "] {
        body["model"] = json!(model);
        let (status, error) = scene.post(TEXT, &body).await;
        assert!(
            status == 404 || model.is_empty() && status == 400,
            "{model}: {error}"
        );
    }
    assert_eq!(scene.get("/v1/nothing").await.0, 404);
    assert_eq!(scene.get(TEXT).await.0, 405);
    assert_eq!(scene.get("/health").await.0, 200);
}

#[tokio::test]
async fn embeddings_should_be_unit_vectors_that_depend_on_text_and_model() {
    let scene = Scene::new().await;
    let path = "/v1/embeddings";
    let body = json!({"model": BASE, "input": ["The harbour", "Prices", "The harbour"]});
    let answer = scene.ok(path, &body).await;
    let vectors: Vec<Vec<f64>> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| serde_json::from_value(entry["embedding"].clone()).unwrap())
        .collect();
    assert_eq!(vectors[0].len(), config().hidden_size);
    assert_eq!(vectors[0], vectors[2]);
    assert_ne!(vectors[0], vectors[1]);
    let length: f64 = vectors[0].iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-5);
    let mut red = body.clone();
    red["model"] = json!("red");
    assert_ne!(scene.ok(path, &red).await["data"], answer["data"]);
    let ids = text(None).count_text("The harbour").unwrap();
    let body = json!({"model": BASE, "input": ids, "encoding_format": "base64"});
    let answer = scene.ok(path, &body).await;
    assert_eq!(answer["usage"]["prompt_tokens"], ids.len());
    let bytes = STANDARD
        .decode(answer["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let first = f32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert!((f64::from(first) - vectors[0][0]).abs() < 1e-6);
    for wrong in [
        json!({"model": BASE, "input": "a", "dimensions": 3}),
        json!({"model": BASE, "input": "a", "more": 3}),
        json!({"model": BASE, "input": [999_999]}),
        json!({"model": BASE}),
    ] {
        assert_eq!(scene.post(path, &wrong).await.0, 400, "{wrong}");
    }
    let wrong = json!({"model": "green", "input": "a"});
    assert_eq!(scene.post(path, &wrong).await.0, 404);
}

#[tokio::test]
async fn the_operator_should_load_replace_and_unload() {
    let scene = Scene::new().await;
    write_adapter(&scene.folder.path().join("more/green"), 3);
    write_adapter(&scene.folder.path().join("other"), 4);
    let load = json!({"lora_name": "green", "lora_path": "more/green"});
    assert_eq!(scene.post(LOAD, &load).await.0, 401);
    assert_eq!(
        scene
            .post_as(LOAD, &load, Some("not-the-operators-key"))
            .await
            .0,
        401
    );
    assert_eq!(scene.post_as(LOAD, &load, Some(ADMIN)).await.0, 200);
    let mut body = prompt("Hi");
    body["model"] = json!("green");
    let green = scene.ok(TEXT, &body).await["choices"].clone();
    // The name is taken.
    assert_eq!(scene.post_as(LOAD, &load, Some(ADMIN)).await.0, 400);
    let absolute = scene.folder.path().join("other");
    let replace = json!({"lora_name": "green", "lora_path": absolute, "load_inplace": true});
    assert_eq!(scene.post_as(LOAD, &replace, Some(ADMIN)).await.0, 200);
    assert_ne!(scene.ok(TEXT, &body).await["choices"], green);
    let unload = json!({"lora_name": "green"});
    assert_eq!(scene.post_as(UNLOAD, &unload, None).await.0, 401);
    assert_eq!(scene.post_as(UNLOAD, &unload, Some(ADMIN)).await.0, 200);
    assert_eq!(scene.post(TEXT, &body).await.0, 404);
    assert_eq!(scene.post_as(UNLOAD, &unload, Some(ADMIN)).await.0, 404);
    let base = json!({"lora_name": BASE, "lora_path": "red"});
    assert_eq!(scene.post_as(LOAD, &base, Some(ADMIN)).await.0, 400);
}

#[tokio::test]
async fn only_folders_below_the_allowed_one_should_be_loaded() {
    let scene = Scene::new().await;
    let outside = tempfile::tempdir().unwrap();
    write_adapter(outside.path(), 3);
    let link = scene.folder.path().join("link");
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    std::os::unix::fs::symlink(
        scene.folder.path().join("red"),
        scene.folder.path().join("inside"),
    )
    .unwrap();
    std::fs::create_dir(scene.folder.path().join("broken")).unwrap();
    std::fs::write(scene.folder.path().join("broken/adapter_config.json"), "{").unwrap();
    let load = |path: String| json!({"lora_name": "green", "lora_path": path});
    for path in [
        outside.path().display().to_string(),
        "..".into(),
        "red/..".into(),
        "red/../../etc".into(),
        "./../red/../..".into(),
        "/".into(),
        "".into(),
        ".".into(),
        "link".into(),
        "inside".into(),
        "missing".into(),
        "red/adapter_config.json".into(),
        "red\0".into(),
        scene.folder.path().display().to_string(),
    ] {
        let (status, error) = scene.post_as(LOAD, &load(path.clone()), Some(ADMIN)).await;
        assert_eq!(status, 400, "{path}: {error}");
        assert_eq!(error["error"]["param"], "lora_path");
    }
    let (status, _) = scene
        .post_as(LOAD, &load("broken".into()), Some(ADMIN))
        .await;
    assert_eq!(status, 422);
    assert!(scene.models.find("green").is_none());
}

#[tokio::test]
async fn keys_should_be_asked_for_where_there_are_some() {
    let keys = Keys::new(&["a-clients-own-secret"]);
    let options = Options {
        keys,
        ..Options::default()
    };
    let scene = Scene::with(None, EngineOptions::default(), options).await;
    let body = prompt("Hi");
    let (status, error) = scene.post(TEXT, &body).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (401, &json!("invalid_api_key"))
    );
    assert_eq!(scene.post_as(TEXT, &body, Some(ADMIN)).await.0, 401);
    assert_eq!(
        scene
            .post_as(TEXT, &body, Some("a-clients-own-secret"))
            .await
            .0,
        200
    );
    assert_eq!(scene.get("/v1/models").await.0, 401);
    assert_eq!(scene.get("/health").await.0, 200);
    assert_eq!(scene.get("/ready").await.0, 200);
    // A client is not the operator.
    let load = json!({"lora_name": "x", "lora_path": "red"});
    assert_eq!(
        scene
            .post_as(LOAD, &load, Some("a-clients-own-secret"))
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn what_is_too_much_should_be_refused_clearly() {
    let options = EngineOptions {
        max_requests: 1,
        ..EngineOptions::default()
    };
    let scene = Scene::with(Some("qwen3.jinja"), options, Options::default()).await;
    let error = |answer: (u16, Value)| (answer.0, answer.1["error"]["code"].clone());
    let long = prompt(&"harbour ".repeat(5_000));
    assert_eq!(
        error(scene.post(TEXT, &long).await),
        (400, json!("context_length_exceeded"))
    );
    let large = prompt(&"x".repeat(2 << 20));
    assert_eq!(
        error(scene.post(TEXT, &large).await),
        (413, json!("request_too_large"))
    );
    let mut two = prompt("Hi");
    two["n"] = json!(2);
    let (status, answer) = scene.post(TEXT, &two).await;
    // That would never find two places.
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("n")));
    let several = json!({"model": BASE, "input": ["a", "b"]});
    let (status, answer) = scene.post("/v1/embeddings", &several).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("input")));
    let place = scene.take_a_place();
    let request = scene.client.post(scene.url(TEXT)).json(&prompt("Hi"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 429);
    let later = response.headers()["retry-after"].to_str().unwrap();
    assert!(later.parse::<u64>().unwrap() >= 1);
    drop(place);
    let plain = scene
        .client
        .post(scene.url(TEXT))
        .body(prompt("Hi").to_string());
    assert_eq!(plain.send().await.unwrap().status(), 415);
    let deep = format!("{{\"model\":\"tiny\",\"prompt\":{}", "[".repeat(100_000));
    let request = scene
        .client
        .post(scene.url(TEXT))
        .header("content-type", "application/json");
    let response = request.body(deep).send().await.unwrap();
    assert_eq!(response.status(), 400);
    // The rest is unharmed, once the place is free again.
    loop {
        match scene.post(TEXT, &prompt("Hi")).await {
            (429, _) => tokio::time::sleep(Duration::from_millis(5)).await,
            (status, answer) => break assert_eq!(status, 200, "{answer}"),
        }
    }
}

#[tokio::test]
async fn a_request_that_does_not_fit_whole_should_leave_nothing_running() {
    let options = EngineOptions {
        max_requests: 4,
        ..EngineOptions::default()
    };
    let scene = Scene::with(None, options, Options::default()).await;
    scene.idle().await;
    let place = scene.take_a_place();
    let before = scene.engine.stats();
    let mut body = prompt("");
    body["prompt"] = json!(["The harbour", "Prices are", "Who is paid?", "One too many"]);
    body["max_tokens"] = json!(1900);
    body["ignore_eos"] = json!(true);
    for stream in [false, true] {
        body["stream"] = json!(stream);
        let (status, error) = scene.post(TEXT, &body).await;
        assert_eq!((status, &error["error"]["code"]), (429, &json!("busy")));
        // The three that had been taken are not computed to their end.
        scene.idle_but_for(1).await;
    }
    // The engine may not have looked at all of them yet.
    let cancelled = async {
        while scene.engine.stats().cancelled == before.cancelled {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, cancelled)
        .await
        .expect("they are cancelled");
    scene.idle_but_for(1).await;
    assert_eq!(scene.engine.stats().finished, before.finished);
    drop(place);
    body["stream"] = json!(false);
    body["max_tokens"] = json!(2);
    body["prompt"] = json!(["The harbour", "Prices are", "Who is paid?"]);
    // The last places come free a moment after the last step.
    let answer = loop {
        let (status, answer) = scene.post(TEXT, &body).await;
        if status != 429 {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(answer["choices"].as_array().unwrap().len(), 3, "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_should_free_what_it_used() {
    let scene = Scene::new().await;
    let mut body = prompt("The harbour");
    body["max_tokens"] = json!(2000);
    body["ignore_eos"] = json!(true);
    body["n"] = json!(4);
    for stream in [true, false] {
        body["stream"] = json!(stream);
        let text = body.to_string();
        let mut socket = TcpStream::connect(scene.address).await.unwrap();
        let head = format!(
            "POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        while scene.engine.stats().running == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let before = scene.engine.stats().cancelled;
        drop(socket);
        scene.idle().await;
        assert!(scene.engine.stats().cancelled > before, "stream: {stream}");
    }
}

/// Asks for a stream that is larger than what the kernel buffers, and reads its beginning only.
async fn unread_stream(scene: &Scene) -> TcpStream {
    let mut body = prompt("The harbour");
    body["max_tokens"] = json!(1900);
    body["ignore_eos"] = json!(true);
    body["n"] = json!(16);
    body["logprobs"] = json!(20);
    body["stream"] = json!(true);
    let text = body.to_string();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(scene.address).await.unwrap();
    let head = format!(
        "POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    socket
}

#[tokio::test]
async fn a_reader_that_does_not_read_should_be_left_alone() {
    let options = limited(Limits {
        slow_reader: Duration::from_millis(300),
        ..Limits::default()
    });
    let scene = Scene::with(None, EngineOptions::default(), options).await;
    let socket = unread_stream(&scene).await;
    let before = scene.engine.stats().finished;
    // Nothing is read, and others are served meanwhile.
    scene.ok(TEXT, &prompt("Hi")).await;
    scene.idle().await;
    assert!(
        scene.engine.stats().finished < before + 17,
        "the slow answers were cancelled"
    );
    assert!(scene.engine.stats().cancelled > 0);
    drop(socket);
}

#[tokio::test]
async fn idle_connections_should_harm_nobody() {
    let options = limited(Limits {
        connections: 8,
        idle_timeout: LONG,
        ..Limits::default()
    });
    let scene = Scene::with(None, EngineOptions::default(), options).await;
    let mut sockets = Vec::new();
    for at in 0..200 {
        let mut socket = TcpStream::connect(scene.address).await.unwrap();
        if at % 2 == 0 {
            // Headers that never end.
            let _ = socket
                .write_all(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n")
                .await;
        }
        sockets.push(socket);
        if at % 50 == 49 {
            scene.ok(TEXT, &prompt("Hi")).await;
        }
    }
    // All gave way for which there is no place; nothing else hangs up on them in time.
    for socket in &mut sockets[..192] {
        assert_eq!(to_the_end(socket).await, b"");
    }
    scene.ok(TEXT, &prompt("Hi")).await;
}

#[tokio::test]
async fn slow_bodies_should_keep_no_place_from_others() {
    let scene = || {
        let options = Options {
            keys: Keys::new(&["a-clients-own-secret"]),
            body_timeout: LONG,
            ..limited(Limits {
                connections: 8,
                idle_timeout: LONG,
                ..Limits::default()
            })
        };
        Scene::with(None, EngineOptions::default(), options)
    };
    let (client, operator) = (
        "authorization: Bearer a-clients-own-secret\r\n",
        format!("authorization: Bearer {ADMIN}\r\n"),
    );
    let narrow = scene().await;
    // Without a key nothing of a body is waited for, and neither where none is wanted.
    for (path, header, status) in [
        (LOAD, "", "401"),
        (UNLOAD, client, "401"),
        (TEXT, "", "401"),
        ("/v1/nothing", client, "404"),
        ("/nothing", "", "404"),
        ("/v1/models", client, "405"),
        ("/health", "", "405"),
    ] {
        let mut socket = slow_body(&narrow, path, header).await;
        let answer = String::from_utf8(to_the_end(&mut socket).await).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
    }
    // Whoever has a key is waited for, as long as nobody else needs the place.
    for (path, header) in [(TEXT, client), (LOAD, operator.as_str())] {
        let scene = scene().await;
        let mut slow = Vec::new();
        for _ in 0..8 {
            slow.push(slow_body(&scene, path, header).await);
        }
        let body = prompt("Hi");
        let (status, answer) = scene
            .post_as(TEXT, &body, Some("a-clients-own-secret"))
            .await;
        assert_eq!(status, 200, "{answer}");
        let answer = String::from_utf8(to_the_end(&mut slow[0]).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("too_many_connections"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_never_comes_should_not_be_waited_for_long() {
    let options = Options {
        body_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let scene = Scene::with(None, EngineOptions::default(), options).await;
    let mut slow = slow_body(&scene, TEXT, "").await;
    assert!(to_the_end(&mut slow).await.starts_with(b"HTTP/1.1 408"));
    scene.ok(TEXT, &prompt("Hi")).await;
}

#[tokio::test]
async fn a_server_whose_connections_are_all_busy_should_say_so() {
    let options = limited(Limits {
        connections: 2,
        ..Limits::default()
    });
    let scene = Scene::with(None, EngineOptions::default(), options).await;
    let busy = [unread_stream(&scene).await, unread_stream(&scene).await];
    let request = scene.client.post(scene.url(TEXT)).json(&prompt("Hi"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["code"], "too_many_connections");
    drop(busy);
    scene.idle().await;
    scene.ok(TEXT, &prompt("Hi")).await;
}

#[tokio::test]
async fn connections_without_a_request_should_be_closed_in_time() {
    let options = limited(Limits {
        idle_timeout: Duration::from_millis(100),
        ..Limits::default()
    });
    let scene = Scene::with(None, EngineOptions::default(), options).await;
    for sent in [
        "",
        "GET /health HTTP/1.1\r\nhost: x\r\n",
        // Answered, and then silent.
        "GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(scene.address).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        let answer = to_the_end(&mut socket).await;
        assert_eq!(
            answer.starts_with(b"HTTP/1.1 200"),
            sent.ends_with("\r\n\r\n")
        );
    }
    scene.ok(TEXT, &prompt("Hi")).await;
}

#[tokio::test]
async fn a_connection_from_before_the_model_was_there_should_be_served_after() {
    let mut scene = Scene::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front::new(listener, Limits::default(), loading(None));
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut health = async || {
        let request = format!("GET /ready HTTP/1.1\r\nhost: {address}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        let mut rest = vec![0; 1024];
        while !rest.ends_with(b"}") {
            let more = socket.read_u8().await.unwrap();
            rest.push(more);
        }
        answer
    };
    assert_eq!(front.wait_for(health()).await, b"HTTP/1.1 503");
    let server = scene.server.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        server
            .serve(front, async {
                let _ = stopped.await;
            })
            .await;
    });
    assert_eq!(health().await, b"HTTP/1.1 200");
    drop((stop, socket));
    serving.await.unwrap();
    scene.stop().await;
}

/// The status and body of one answer that tells its length.
async fn one_answer(socket: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split_once("content-length: ").unwrap().1;
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.unwrap();
    (head[9..12].to_owned(), body)
}

#[tokio::test]
async fn what_is_sent_while_the_model_is_being_loaded_should_be_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let front = Front::new(listener, Limits::default(), loading(None));
    let client = async {
        let head = format!("POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        // So that it is asked for before it comes.
        tokio::time::sleep(Duration::from_millis(50)).await;
        socket.write_all(&[b'x'; 60_000]).await.unwrap();
        let (status, body) = one_answer(&mut socket).await;
        assert_eq!(status, "503");
        assert!(String::from_utf8(body).unwrap().contains("loading"));
        // Nothing of it is left in the way of the next request.
        let next = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
        socket.write_all(next).await.unwrap();
        assert_eq!(one_answer(&mut socket).await.0, "200");
    };
    tokio::time::timeout(PATIENCE, front.wait_for(client))
        .await
        .expect("it is answered");
}

#[tokio::test]
async fn headers_should_be_few_and_short() {
    let scene = Scene::new().await;
    for (count, bytes, status) in [
        (63, 1, "200"),
        (64, 1, "431"),
        (1, 60_000, "200"),
        (1, 300_000, "431"),
    ] {
        let mut socket = TcpStream::connect(scene.address).await.unwrap();
        let more: String = (0..count)
            .map(|at| format!("x-{at}: {}\r\n", "y".repeat(bytes)))
            .collect();
        let request = format!("GET /health HTTP/1.1\r\nhost: x\r\n{more}\r\n");
        // It may be hung up on before its end.
        let _ = socket.write_all(request.as_bytes()).await;
        let mut answer = vec![0; 12];
        let read = tokio::time::timeout(PATIENCE, socket.read_exact(&mut answer));
        read.await.expect("it is answered").unwrap();
        assert_eq!(&answer[9..], status.as_bytes(), "{count} of {bytes}");
    }
}

#[tokio::test]
async fn stopping_should_let_answers_end_and_take_no_new_ones() {
    let mut scene = Scene::new().await;
    let mut body = prompt("The harbour");
    body["max_tokens"] = json!(600);
    body["ignore_eos"] = json!(true);
    let request = scene.client.post(scene.url(TEXT)).json(&body);
    let running = tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await });
    while scene.engine.stats().running == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let address = scene.address;
    scene.stop().await;
    let answer = running.await.unwrap().unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], 600);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!scene.engine.is_running());
}

#[tokio::test]
async fn a_dead_engine_should_not_be_ready() {
    let scene = Scene::new().await;
    assert_eq!(scene.get("/ready").await.0, 200);
    // Routes of their own: the server itself ends with its engine.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = scene.server.router();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let engine = scene.engine.clone();
    tokio::task::spawn_blocking(move || engine.shutdown())
        .await
        .unwrap();
    let ready = scene
        .client
        .get(format!("http://{address}/ready"))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("engine"));
    let asked = scene
        .client
        .post(format!("http://{address}{TEXT}"))
        .json(&prompt("Hi"))
        .send();
    assert_eq!(asked.await.unwrap().status(), 503);
    serving.abort();
}
