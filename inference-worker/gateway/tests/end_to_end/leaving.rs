//! A client that hangs up while its answer is streamed.

use crate::{
    scene::{Scene, PRICE_IN, PRICE_OUT},
    served::{rambling, receipt},
};
use futures::StreamExt;
use openledger_primitives::receipt::{Outcome, Receipt};
use serde_json::{json, Value};
use std::time::Duration;

/// The worker is stopped, charges what was delivered, and the lane goes on.
pub async fn a_client_that_leaves(scene: &Scene) {
    let cancelled = "openledger_gateway_requests_total{model=\"small\",outcome=\"cancelled\"}";
    let mut channel = String::new();
    // An answer may end before its client is gone: tried until one is cut off.
    for seed in 0..10 {
        let mut body = rambling(200, seed);
        body["stream"] = json!(true);
        let response = scene
            .http
            .post(scene.url("/v1/completions"))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        channel = response.headers()["openledger-channel"]
            .to_str()
            .unwrap()
            .to_owned();
        let mut stream = response.bytes_stream();
        let first = stream.next().await;
        drop((first, stream));
        while scene.metric("openledger_gateway_requests_in_flight").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        if scene.metric(cancelled).await > 0.0 {
            break;
        }
    }
    assert!(scene.metric(cancelled).await > 0.0);
    let receipt = cancelled_receipt(scene, &channel).await;
    // What was delivered is charged, and no more: not the 200 tokens that were asked for.
    assert!((1..200).contains(&receipt.tokens_out), "{receipt:?}");
    let fee = (u128::from(receipt.tokens_in) * PRICE_IN
        + u128::from(receipt.tokens_out) * PRICE_OUT)
        / 1_000;
    assert_eq!(receipt.fee, fee);
    let ready: Value = scene
        .http
        .get(scene.url("/ready"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(ready["lanes"], json!({"usable": 2, "parked": []}));
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");
    let rejected = scene
        .metric("openledger_gateway_rejected_receipts_total")
        .await;
    assert_eq!(rejected, 0.0);
}

/// The receipt of the answer that was cut off, from the worker's journal.
async fn cancelled_receipt(scene: &Scene, channel: &str) -> Receipt {
    for _ in 0..240 {
        for lane in 0..2 {
            let port = scene.worker_port;
            let url = format!("http://127.0.0.1:{port}/openledger/channels/{channel}/lanes/{lane}");
            let state: Value = scene
                .http
                .get(url)
                .send()
                .await
                .unwrap()
                .json()
                .await
                .unwrap();
            if state["receipt"].is_string() && state["in_flight"] == false {
                let receipt = receipt(&state).receipt;
                if receipt.outcome == Outcome::Cancelled {
                    return receipt;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("no receipt says that its answer was cut off");
}
