//! Workers that do not keep to the rules.

use crate::{
    fake::{Fake, Manner},
    scene::{submitter, Scene},
};
use openledger_chain::calls::workers::Serve;
use serde_json::{json, Value};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_worker_gets_nothing_acknowledged() {
    let Some(mut scene) = Scene::open().await else {
        return;
    };
    let fake = Fake::serve(scene.worker_port, scene.operator.0, scene.service.clone()).await;
    submitter(&scene.client, scene.service.clone())
        .submit(&Serve {
            revisions: vec![scene.revision],
        })
        .await
        .unwrap();
    scene.until_served().await;
    scene.open_channel("data", "1000");
    scene.start_gateway("data", &[]).await;

    let (status, body) = scene.post(CHAT, scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");

    // A lane that is taken at the worker is left alone, and is no reason to fail.
    fake.turn(Manner::BusyOnLaneZero);
    for _ in 0..4 {
        let (status, body) = scene.post(CHAT, scene.chat(8)).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["openledger"]["receipts"][0]["lane"], 1);
    }
    assert_eq!(parked(&scene).await, Vec::<u64>::new());

    // What is asked for may let the answer go no further: the client pays for it, and is told.
    fake.turn(Manner::Cancel);
    for _ in 0..20 {
        let mut asked = scene.chat(8);
        asked["guided_regex"] = json!("Ilse Marn");
        let (status, body) = scene.post(CHAT, asked).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["choices"][0]["message"]["content"], "Ilse");
        assert_eq!(body["choices"][0]["finish_reason"], "length");
        assert_eq!(body["openledger"]["outcome"], "cancelled");
        assert_eq!(body["usage"]["completion_tokens"], 1);
    }
    assert_eq!(parked(&scene).await, Vec::<u64>::new());

    // The voucher is for the worker that the chain names.
    fake.turn(Manner::Redirect);
    let (status, _) = scene.post(CHAT, scene.chat(8)).await;
    assert_eq!((status, fake.stolen()), (502, 0));

    fake.turn(Manner::Flood);
    let (status, body) = scene.post(CHAT, scene.chat(8)).await;
    assert_eq!(status, 502, "{body}");
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("more text than was paid for"),
        "{body}"
    );
    assert_eq!(parked(&scene).await, Vec::<u64>::new());

    // bill_without_delivery: an error, and then a receipt of the whole fee. Each lane is tried once.
    fake.turn(Manner::RefuseAndBill);
    let acknowledged: Vec<u128> = lanes(&scene, &fake).await;
    assert_eq!(parked(&scene).await, [0, 1]);
    let (status, body) = scene.post(CHAT, scene.chat(8)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (502, &json!("lanes_parked"))
    );
    assert_eq!(fake.vouchers().len(), 2);
    for (voucher, before) in fake.vouchers().iter().zip(acknowledged) {
        assert_eq!(voucher.voucher.prev_cum, before);
    }

    // Its owner sees why, and what going on would cost.
    scene.gateway = None;
    let (data, chain) = (scene.path("data"), scene.chain());
    let data = data.to_str().unwrap();
    let listed = scene.command(&["lanes", "--data", data]);
    assert_eq!(listed.matches("PARKED").count(), 2, "{listed}");
    assert!(listed.contains("did not answer"), "{listed}");
    let signer = scene.path("signer");
    let mut release = vec![
        "release", "--chain", &chain, "--data", data, "--lane", "0", "--key",
    ];
    release.push(signer.to_str().unwrap());
    let said = scene.command(&release);
    assert!(said.contains("charges"), "{said}");
    assert!(said.contains("nothing is changed"), "{said}");
    release.push("--yes");
    let said = scene.command(&release);
    assert!(said.contains("in use again"), "{said}");

    break_two_deliver_one(&mut scene, &fake).await;
}

/// Eight answers broken off are put up with, and no more for what is delivered between them or for
/// the gateway being started anew.
async fn break_two_deliver_one(scene: &mut Scene, fake: &Fake) {
    scene.start_gateway("data", &[]).await;
    for round in 0..4 {
        fake.turn(Manner::BreakOffAndBill);
        for _ in 0..2 {
            let (status, body) = scene.post(CHAT, scene.chat(128)).await;
            assert_eq!(
                (status, &body["error"]["code"]),
                (502, &json!("receipt_missing")),
                "{body}"
            );
        }
        if round % 2 == 1 {
            scene.start_gateway("data", &[]).await;
        }
        fake.turn(Manner::Honest);
        let (status, body) = scene.post(CHAT, scene.chat(128)).await;
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(parked(scene).await, [1]);
    fake.turn(Manner::BreakOffAndBill);
    let (status, body) = scene.post(CHAT, scene.chat(128)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (502, &json!("lane_parked")),
        "{body}"
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("for what did not come"), "{message}");
    assert_eq!(parked(scene).await, [0, 1]);

    scene.gateway = None;
    let (data, chain) = (scene.path("data"), scene.chain());
    let data = data.to_str().unwrap();
    let listed = scene.command(&["lanes", "--data", data]);
    assert!(listed.contains("for what did not come"), "{listed}");
    assert!(listed.contains("8 answers broke off"), "{listed}");
    let status = scene.command(&["status", "--chain", &chain, "--data", data]);
    assert!(status.contains("8 answers broke off"), "{status}");
}

/// Asks twice, so that both lanes are tried; what each voucher should acknowledge.
async fn lanes(scene: &Scene, fake: &Fake) -> Vec<u128> {
    let before = fake.acknowledged();
    for _ in 0..2 {
        let (status, body) = scene.post(CHAT, scene.chat(8)).await;
        assert_eq!(status, 502, "{body}");
    }
    fake.vouchers()
        .iter()
        .map(|signed| before[&signed.voucher.lane])
        .collect()
}

async fn parked(scene: &Scene) -> Vec<u64> {
    let ready: Value = scene
        .http
        .get(scene.url("/ready"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let parked = ready["lanes"]["parked"].as_array().unwrap();
    parked
        .iter()
        .map(|lane| lane["lane"].as_u64().unwrap())
        .collect()
}
