//! Vouchers at the worker's own door, signed here and not by the gateway: what is refused changes
//! nothing, and what was refused for another reason than itself is good afterwards.

use crate::acts::{pay::gateways_channel, Told};
use anyhow::{ensure, Context, Result};
use openledger_chain::{
    apis::models::{GetRevision, GetTerms},
    calls::settlement::OpenChannel,
    events::settlement::ChannelOpened,
    Key, OPEN,
};
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{
    voucher::{request_commit, EvidenceClass, Voucher},
    FORMAT_VERSION,
};
use parity_scale_codec::Encode;
use serde_json::{json, Value};

/// Deposit of the channel and limit of its signer, planck.
const DEPOSIT: u128 = 20 * OPEN;
/// The most that a voucher charges here, planck.
const MAX_FEE: u128 = 2 * OPEN;
/// Salt of the requests' commitments.
const SALT: [u8; 32] = [7; 32];

/// A request to the worker.
struct Sent {
    body: String,
    voucher: Voucher,
    salt: [u8; 32],
    /// Turns a bit of the signature.
    forged: bool,
}

/// Posts requests with vouchers of one signer.
struct Door {
    url: String,
    lane: String,
    key: Key,
}

impl Door {
    /// Status and body of the answer.
    async fn send(&self, sent: &Sent) -> Result<(u16, Value)> {
        let mut signature = self.key.sign_hash(&sent.voucher.hash());
        if sent.forged {
            signature.0[40] ^= 1;
        }
        let signed = SignedVoucher {
            voucher: sent.voucher,
            signature,
        };
        let response = reqwest::Client::new()
            .post(&self.url)
            .header("content-type", "application/json")
            .header("openledger-voucher", hex::encode(signed.encode()))
            .header("openledger-salt", hex::encode(sent.salt))
            .body(sent.body.clone())
            .send()
            .await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await?))
    }

    /// Where the worker says that the lane stands.
    async fn state(&self) -> Result<Value> {
        Ok(reqwest::get(&self.lane).await?.json().await?)
    }
}

/// Everything that is not paid for is refused by name, and the lane stays where it was.
pub async fn refused_change_nothing(told: &mut Told) -> Result<String> {
    let client = told.scene.client.clone();
    let key = Key::generate(&told.scene.dir.join("keys").join("own-signer"))?;
    let now = client.best_block().await?.number;
    let consumer = &told.scene.cast.consumer.chain;
    let opened = consumer
        .submit(&OpenChannel {
            worker: told.scene.cast.operator.account(),
            deposit: DEPOSIT,
            lanes: 2,
            signer: key.public(),
            limit: DEPOSIT,
            valid_until: now + 10_000,
            evidence: EvidenceClass::Open,
        })
        .await?;
    let channel = opened.expect::<ChannelOpened>()?.channel;
    told.own_channel = Some(channel);
    let revision = told.base_revision;
    let found = client.query(&GetRevision { revision }).await?;
    let model = found.context("the base's revision")?.model;
    let terms = client.query(&GetTerms { model, index: None }).await?;
    let terms = terms.context("the base's terms")?.index;

    let body = |model: &str, content: &str| {
        json!({
            "model": model,
            "messages": [{ "role": "user", "content": content }],
            "max_tokens": 8,
            "temperature": 0,
        })
        .to_string()
    };
    let asked = body(&told.base_alias, "What is the answer?");
    let good = Voucher {
        version: FORMAT_VERSION,
        domain: client.domain().await?,
        channel,
        lane: 0,
        sequence: 1,
        prev_receipt: [0; 32],
        prev_cum: 0,
        max_fee: MAX_FEE,
        revision,
        terms,
        agent: None,
        request_commit: request_commit(&SALT, asked.as_bytes()),
        chunk: 8,
        max_in: 64,
        max_out: 8,
        evidence: EvidenceClass::Open,
        expiry: now + 1_000,
    };
    let sent = |change: &dyn Fn(&mut Sent)| {
        let mut sent = Sent {
            body: asked.clone(),
            voucher: good,
            salt: SALT,
            forged: false,
        };
        change(&mut sent);
        sent
    };
    // With a voucher that commits to just this body.
    let with_body = |body: String| {
        sent(&|s| {
            s.voucher.request_commit = request_commit(&SALT, body.as_bytes());
            s.body.clone_from(&body);
        })
    };
    let other_channel = gateways_channel(told)?;
    let refused = [
        (402, "voucher_signature", sent(&|s| s.forged = true)),
        (
            402,
            "voucher_signature",
            sent(&|s| s.voucher.channel = other_channel),
        ),
        (402, "voucher_lane", sent(&|s| s.voucher.lane = 2)),
        (402, "voucher_domain", sent(&|s| s.voucher.domain[0] ^= 1)),
        (402, "voucher_sequence", sent(&|s| s.voucher.sequence = 2)),
        (
            402,
            "voucher_previous_receipt",
            sent(&|s| s.voucher.prev_cum = 1),
        ),
        (402, "voucher_request", sent(&|s| s.salt = [8; 32])),
        (402, "voucher_expired", sent(&|s| s.voucher.expiry = 1)),
        (402, "voucher_max_fee", sent(&|s| s.voucher.max_fee = 1)),
        (
            402,
            "voucher_deposit",
            sent(&|s| s.voucher.max_fee = DEPOSIT + 1),
        ),
        (
            404,
            "model_not_found",
            with_body(body("no-such-model", "Hello")),
        ),
        (400, "invalid_json", with_body("{\"model\":".to_owned())),
        (
            400,
            "context_length_exceeded",
            with_body(body(&told.base_alias, &"again ".repeat(4_000))),
        ),
    ];
    let door = Door {
        url: told.scene.worker_url("/v1/chat/completions"),
        lane: told
            .scene
            .worker_url(&format!("/openledger/channels/{channel}/lanes/0")),
        key,
    };
    let before = door.state().await?;
    for (status, code, sent) in &refused {
        let (found, answer) = door.send(sent).await?;
        ensure!(
            found == *status && answer["error"]["code"] == *code,
            "{code}: {found} {answer}"
        );
        let after = door.state().await?;
        ensure!(after == before, "{code} moved the lane: {after}");
    }

    let (status, answer) = door.send(&sent(&|_| {})).await?;
    ensure!(status == 200, "the good voucher: {status} {answer}");
    let receipt = answer["openledger"]["receipt"].as_str();
    let receipt = hex::decode(receipt.context("a receipt")?)?;
    let receipt = SignedReceipt::from_bytes(&receipt).context("a receipt does not decode")?;
    told.receipts.push(receipt);
    // The same again is the same receipt, for who made the request and for nobody else.
    let (status, again) = door.send(&sent(&|_| {})).await?;
    ensure!(
        status == 402
            && again["error"]["code"] == "voucher_already_served"
            && again["openledger"]["receipt"] == answer["openledger"]["receipt"],
        "the voucher once more: {status} {again}"
    );
    let (_, stranger) = door.send(&sent(&|s| s.salt = [8; 32])).await?;
    ensure!(
        stranger["error"]["code"] == "voucher_request"
            && !stranger.to_string().contains("output_salt"),
        "a stranger with the voucher: {stranger}"
    );
    let (_, repeated) = door.send(&sent(&|s| s.voucher.max_fee -= 1)).await?;
    ensure!(
        repeated["error"]["code"] == "voucher_sequence",
        "another voucher of the same sequence: {repeated}"
    );
    Ok(format!(
        "{} kinds of bad vouchers and requests are refused at the worker's door and change nothing",
        refused.len()
    ))
}
