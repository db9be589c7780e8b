//! An OpenAI client, the gateway and a real worker.

use crate::{
    crowd, leaving,
    scene::{submitter, Scene, PRICE_IN, PRICE_OUT},
};
use futures::future::join_all;
use openledger_chain::{
    calls::settlement::OpenChannel, events::settlement::ChannelOpened, Key, OPEN,
};
use openledger_gateway::{
    commands::{by_signer, Opening},
    lanes::LaneStore,
};
use openledger_metering::SignedReceipt;
use openledger_primitives::voucher::EvidenceClass;
use serde_json::{json, Value};

/// The data of each event of a stream.
fn events(stream: &str) -> Vec<&str> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect()
}

pub fn receipt(openledger: &Value) -> SignedReceipt {
    let bytes = hex::decode(openledger["receipt"].as_str().unwrap()).unwrap();
    SignedReceipt::from_bytes(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_openai_client_is_served_over_a_channel() {
    let Some(mut scene) = Scene::open().await else {
        return;
    };
    scene.start_worker();
    scene.until_served().await;
    let consumer = scene.path("consumer");
    budget(&mut scene).await;
    an_opening_that_was_not_seen_through(&scene).await;
    scene
        .start_gateway("data", &["--max-connections", crowd::ROOM])
        .await;
    strangers(&scene).await;

    let models: Value = scene
        .http
        .get(scene.url("/v1/models"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(models["data"][0]["id"], "small");
    whole_answers(&scene).await;
    streams(&scene).await;
    crowd::says_nothing(&scene).await;
    refusals(&scene).await;
    more_requests_than_lanes(&scene).await;
    an_answer_longer_than_a_voucher(&scene).await;
    leaving::a_client_that_leaves(&scene).await;

    // kill -9 of the worker: the lane goes on where it stood.
    scene.worker = None;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (502, &json!("worker_unreachable"))
    );
    scene.start_worker();
    scene.until_ready().await;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");

    // A gateway that lost its data takes the lanes over from the worker, after checking them.
    let channel = body["openledger"]["channel"].to_string();
    scene.start_gateway("other", &["--channel", &channel]).await;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body["openledger"]["receipts"][0]["sequence"]
            .as_u64()
            .unwrap()
            > 1
    );

    scene.gateway = None;
    let chain = scene.chain();
    let status = scene.command(&[
        "status",
        "--chain",
        &chain,
        "--channel",
        &channel,
        "--data",
        scene.path("other").to_str().unwrap(),
    ]);
    assert!(status.contains("open"), "{status}");
    assert!(!status.contains("PARKED"), "{status}");
    let data = scene.path("other");
    let lanes = scene.command(&[
        "lanes",
        "--channel",
        &channel,
        "--data",
        data.to_str().unwrap(),
    ]);
    assert!(lanes.contains("in use"), "{lanes}");
    let closing = scene.command(&[
        "close",
        "--chain",
        &chain,
        "--account-key",
        consumer.to_str().unwrap(),
        "--channel",
        &channel,
    ]);
    assert!(closing.contains("may claim until block"), "{closing}");
}

async fn whole_answers(scene: &Scene) {
    let response = scene
        .http
        .post(scene.url("/v1/chat/completions"))
        .json(&scene.chat(24))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["role"], "assistant");
    let signed = receipt(&body["openledger"]);
    let (usage, receipt) = (&body["usage"], &signed.receipt);
    assert_eq!(usage["prompt_tokens"], receipt.tokens_in);
    assert_eq!(usage["completion_tokens"], receipt.tokens_out);
    let fee = (u128::from(receipt.tokens_in) * PRICE_IN
        + u128::from(receipt.tokens_out) * PRICE_OUT)
        / 1_000;
    assert_eq!(receipt.fee, fee);
    assert_eq!(body["openledger"]["fee"], fee.to_string());
    assert_eq!(headers["openledger-fee"].to_str().unwrap(), fee.to_string());
    assert_eq!(
        headers["openledger-receipt"].to_str().unwrap(),
        hex::encode(receipt.hash())
    );
    let (status, body) = scene
        .post(
            "/v1/completions",
            json!({"model": "small", "prompt": "The lighthouse", "max_tokens": 8, "temperature": 0}),
        )
        .await;
    assert_eq!((status, &body["object"]), (200, &json!("text_completion")));
    assert!(body["choices"][0]["text"].is_string());
}

async fn streams(scene: &Scene) {
    let (_, whole) = scene.post("/v1/chat/completions", scene.chat(24)).await;
    let mut body = scene.chat(24);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let response = scene
        .http
        .post(scene.url("/v1/chat/completions"))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let stream = response.text().await.unwrap();
    let events = events(&stream);
    let (last, events) = events.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    // Greedy: the same request has the same answer, streamed or not.
    assert_eq!(json!(text), whole["choices"][0]["message"]["content"]);
    let usage = chunks.last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);
    let ending = &chunks[chunks.len() - 2];
    assert_eq!(
        ending["choices"][0]["finish_reason"],
        whole["choices"][0]["finish_reason"]
    );
    receipt(&ending["openledger"]);
}

async fn refusals(scene: &Scene) {
    let chat = "/v1/chat/completions";
    let mut unknown = scene.chat(8);
    unknown["model"] = json!("nobody");
    let mut tools = scene.chat(8);
    tools["tools"] = json!([{"type": "function"}]);
    let mut audio = scene.chat(8);
    audio["audio"] = json!({"voice": "alloy"});
    let mut long = scene.chat(8);
    long["messages"][0]["content"] = json!("again ".repeat(4_000));
    for (body, status, code) in [
        (unknown, 404, "model_not_found"),
        (tools, 400, "invalid_value"),
        (audio, 400, "unsupported_parameter"),
        (long, 400, "context_length_exceeded"),
        (json!({"model": "small"}), 400, "missing_messages"),
    ] {
        let (found, answer) = scene.post(chat, body).await;
        assert_eq!((found, &answer["error"]["code"]), (status, &json!(code)));
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
}

async fn more_requests_than_lanes(scene: &Scene) {
    let asked = (0..6).map(|_| scene.post("/v1/chat/completions", scene.chat(8)));
    for (status, body) in join_all(asked).await {
        assert_eq!(status, 200, "{body}");
    }
}

/// Drawn at random, so that the text takes its tokens apart and together in every way.
pub fn rambling(max_tokens: u32, seed: u32) -> Value {
    json!({
        "model": "small",
        "prompt": "Once",
        "max_tokens": max_tokens,
        "temperature": 2,
        "seed": seed,
    })
}

async fn an_answer_longer_than_a_voucher(scene: &Scene) {
    let (status, body) = scene.post("/v1/completions", rambling(300, 7)).await;
    assert_eq!(status, 200, "{body}");
    let receipts = body["openledger"]["receipts"].as_array().unwrap();
    assert!(receipts.len() > 1, "{body}");
    assert!(receipts[0]["tokens_in"].as_u64().unwrap() > 0);
    for pair in receipts.windows(2) {
        assert_eq!(pair[1]["lane"], pair[0]["lane"]);
        assert_eq!(
            pair[1]["sequence"].as_u64().unwrap(),
            pair[0]["sequence"].as_u64().unwrap() + 1
        );
        assert_eq!(pair[1]["tokens_in"], 0);
    }
    let fees: u128 = receipts
        .iter()
        .map(|receipt| receipt["fee"].as_str().unwrap().parse::<u128>().unwrap())
        .sum();
    assert_eq!(body["openledger"]["fee"], fees.to_string());
}

async fn budget(scene: &mut Scene) {
    // 256 tokens at 400 OPEN per 1,000 are more than 50 OPEN; 8 are not.
    scene.open_channel("small", "50");
    scene
        .start_gateway("small", &["--max-price-out", "1"])
        .await;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (402, &json!("price_above_limit")),
        "{body}"
    );
    scene.start_gateway("small", &[]).await;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(400)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (402, &json!("insufficient_quota")),
        "{body}"
    );
    let refused =
        "openledger_gateway_requests_total{model=\"small\",outcome=\"insufficient_quota\"}";
    assert_eq!(scene.metric(refused).await, 1.0);
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");
}

/// `open-channel` was killed after its transaction was sent: the next run finds the channel.
async fn an_opening_that_was_not_seen_through(scene: &Scene) {
    let signer = Key::load_or_generate(&scene.path("signer")).unwrap();
    let opening = Opening::now(
        &scene.client,
        scene.consumer.account(),
        scene.operator,
        &signer,
    )
    .await
    .unwrap();
    LaneStore::open(&scene.path("data"))
        .unwrap()
        .set_opening(Some(&opening))
        .unwrap();
    let consumer = submitter(&scene.client, scene.consumer.clone());
    let open = OpenChannel {
        worker: scene.operator,
        deposit: 2_000 * OPEN,
        lanes: 2,
        signer: signer.public(),
        limit: 2_000 * OPEN,
        valid_until: 1_000_000,
        evidence: EvidenceClass::Open,
    };
    let opened: ChannelOpened = consumer.submit(&open).await.unwrap().expect().unwrap();
    let said = scene.open_channel("data", "1");
    assert!(
        said.starts_with(&format!("channel {} ", opened.channel)),
        "{said}"
    );
    assert!(said.contains("an earlier run had opened it"), "{said}");
    // There is no other.
    let known = by_signer(&scene.client, &signer).await.unwrap();
    assert_eq!(known[0].0, opened.channel);
}

/// What a web page can send reaches no worker.
async fn strangers(scene: &Scene) {
    let url = scene.url("/v1/chat/completions");
    let body = scene.chat(8).to_string();
    let json = ("content-type", "application/json");
    for (headers, status) in [
        (vec![("content-type", "text/plain")], 415),
        (vec![json, ("origin", "https://evil.example")], 403),
        (vec![json, ("host", "evil.example")], 403),
    ] {
        let mut request = scene.http.post(&url).body(body.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        let answer: Value = response.json().await.unwrap();
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
}
