//! A worker that does what it is told, over the worker's HTTP API.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
    Json, Router,
};
use openledger_chain::Key;
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{
    receipt::{attribution_root, output_commit, BackendClass, Outcome, Receipt},
    Balance, LaneIndex, FORMAT_VERSION,
};
use parity_scale_codec::Encode;
use serde_json::{json, Value};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::TcpListener;

use crate::scene::{PRICE_IN, PRICE_OUT};

const SALT: [u8; 32] = [5; 32];

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers one word, and charges for it.
    Honest,
    /// Keeps the voucher, refuses the request, and reports a receipt of all that was signed for.
    RefuseAndBill,
    /// Says nothing but that it lives for a while, breaks off, and reports such a receipt.
    BreakOffAndBill,
    /// Points to another address.
    Redirect,
    /// Sends text without end.
    Flood,
    /// Answers one word, charges for it, and says that it went no further.
    Cancel,
    /// Is busy with something on lane 0; honest on others.
    BusyOnLaneZero,
}

/// See the module.
pub struct Fake {
    worker: [u8; 32],
    key: Key,
    seen: Mutex<Seen>,
}

struct Seen {
    manner: Manner,
    vouchers: Vec<SignedVoucher>,
    last: BTreeMap<LaneIndex, (SignedVoucher, SignedReceipt)>,
    stolen: usize,
}

impl Fake {
    /// Serves on a port until the test ends.
    pub async fn serve(port: u16, worker: [u8; 32], key: Key) -> Arc<Self> {
        let fake = Arc::new(Fake {
            worker,
            key,
            seen: Mutex::new(Seen {
                manner: Manner::Honest,
                vouchers: Vec::new(),
                last: BTreeMap::new(),
                stolen: 0,
            }),
        });
        let router = Router::new()
            .route("/v1/models", get(|| async { Json(json!({})) }))
            .route("/v1/chat/completions", post(complete))
            .route("/stolen", post(stolen))
            .route("/openledger/channels/{channel}/lanes/{lane}", get(lane))
            .with_state(fake.clone());
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it does this, and it knows nothing of what was.
    pub fn turn(&self, manner: Manner) {
        let mut seen = self.seen();
        seen.manner = manner;
        seen.vouchers.clear();
    }

    /// Vouchers that it was sent since it turned.
    pub fn vouchers(&self) -> Vec<SignedVoucher> {
        self.seen().vouchers.clone()
    }

    /// Cumulative charge of each lane.
    pub fn acknowledged(&self) -> BTreeMap<LaneIndex, Balance> {
        let seen = self.seen();
        let charge = |(_, signed): &(SignedVoucher, SignedReceipt)| signed.receipt.cum;
        seen.last
            .iter()
            .map(|(lane, last)| (*lane, charge(last)))
            .collect()
    }

    /// Vouchers that followed it elsewhere.
    pub fn stolen(&self) -> usize {
        self.seen().stolen
    }

    fn receipt(&self, signed: &SignedVoucher, text: &str, tokens_out: u32) -> SignedReceipt {
        self.ended(signed, Outcome::Complete, text, tokens_out)
    }

    fn ended(
        &self,
        signed: &SignedVoucher,
        outcome: Outcome,
        text: &str,
        tokens_out: u32,
    ) -> SignedReceipt {
        let voucher = signed.voucher;
        let tokens_in = voucher.max_in;
        let fee: Balance =
            (u128::from(tokens_in) * PRICE_IN + u128::from(tokens_out) * PRICE_OUT) / 1_000;
        let receipt = Receipt {
            version: FORMAT_VERSION,
            domain: voucher.domain,
            voucher: voucher.hash(),
            worker: self.worker,
            key: 0,
            outcome,
            tokens_in,
            tokens_out,
            fee,
            cum: voucher.prev_cum + fee,
            output_commit: output_commit(&SALT, text.as_bytes()),
            fingerprint_root: [0; 32],
            attribution_root: attribution_root(&[]),
            retrieval_root: [0; 32],
            start_block: 1,
            first_token_ms: 1,
            total_ms: 2,
            backend: BackendClass::CpuF32,
        };
        SignedReceipt::sign(receipt, |hash| self.key.sign_hash(hash))
    }
}

async fn complete(State(fake): State<Arc<Fake>>, headers: HeaderMap) -> Response {
    let bytes = hex::decode(headers["openledger-voucher"].as_bytes()).unwrap();
    let signed = SignedVoucher::from_bytes(&bytes).unwrap();
    let voucher = signed.voucher;
    let mut seen = fake.seen();
    seen.vouchers.push(signed);
    let refuse = |status, code: &str| {
        let body = json!({"error": {"message": "no", "code": code}});
        (status, Json(body)).into_response()
    };
    let manner = seen.manner;
    let mut keep = |receipt| seen.last.insert(voucher.lane, (signed, receipt));
    match manner {
        Manner::Honest | Manner::Cancel => {}
        Manner::BusyOnLaneZero if voucher.lane != 0 => {}
        Manner::BusyOnLaneZero => return refuse(StatusCode::CONFLICT, "voucher_lane_busy"),
        Manner::RefuseAndBill => {
            keep(fake.receipt(&signed, "", voucher.max_out));
            return refuse(StatusCode::PAYMENT_REQUIRED, "voucher_expired");
        }
        Manner::BreakOffAndBill => {
            keep(fake.receipt(&signed, "", voucher.max_out));
            return stream(": still here\n\n".repeat(3));
        }
        Manner::Redirect => return Redirect::temporary("/stolen").into_response(),
        Manner::Flood => {
            let line = event(&json!({"choices": [{"delta": {"content": "more ".repeat(500)}}]}));
            return stream(line.repeat(1_000));
        }
    }
    let outcome = match manner {
        Manner::Cancel => Outcome::Cancelled,
        _ => Outcome::Complete,
    };
    let receipt = fake.ended(&signed, outcome, "Ilse", 1);
    keep(receipt);
    let text = event(&json!({"choices": [{"delta": {"content": "Ilse"}}]}));
    let end = event(&json!({"openledger": {
        "receipt": hex::encode(receipt.encode()),
        "output_salt": hex::encode(SALT),
        "attributions": [],
        "sources": [],
    }}));
    stream(format!("{text}{end}data: [DONE]\n\n"))
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn stream(body: String) -> Response {
    ([("content-type", "text/event-stream")], body).into_response()
}

async fn stolen(State(fake): State<Arc<Fake>>) -> StatusCode {
    fake.seen().stolen += 1;
    StatusCode::OK
}

async fn lane(State(fake): State<Arc<Fake>>, Path((_, lane)): Path<(u64, u16)>) -> Json<Value> {
    let seen = fake.seen();
    let last = seen.last.get(&lane);
    Json(json!({
        "sequence": last.map_or(0, |(signed, _)| signed.voucher.sequence),
        "cumulative": last.map_or(0, |(_, signed)| signed.receipt.cum).to_string(),
        "in_flight": seen.manner == Manner::BusyOnLaneZero && lane == 0,
        "voucher": last.map(|(signed, _)| hex::encode(signed.encode())),
        "receipt": last.map(|(_, signed)| hex::encode(signed.encode())),
    }))
}
