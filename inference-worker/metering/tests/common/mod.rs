//! Keys, vouchers and answers for the tests.
#![allow(dead_code)]

use openledger_metering::{
    record::CreditLine, DeliveredReceipt, LaneHead, SignedReceipt, SignedVoucher,
};
use openledger_primitives::{
    crypto::signing_payloads,
    receipt::{output_commit, BackendClass, CreditReason, Outcome, Receipt},
    voucher::{request_commit, EvidenceClass, Voucher},
    Balance, ChannelId, Digest, LaneIndex, RevisionId, Signature, FORMAT_VERSION,
};
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey};

pub const DOMAIN: Digest = [0xd0; 32];
pub const WORKER: [u8; 32] = [0x77; 32];
pub const SALT: [u8; 32] = [0x5a; 32];
pub const BODY: &[u8] = b"{\"model\":\"7\"}";
pub const OUTPUT: &[u8] = "It was built in 1874.".as_bytes();

/// Planck per 1,000 tokens.
pub const PRICE_IN: Balance = 10_001;
pub const PRICE_OUT: Balance = 30_007;

pub fn keypair(seed: u8) -> Keypair {
    MiniSecretKey::from_bytes(&[seed; 32])
        .unwrap()
        .expand_to_keypair(ExpansionMode::Ed25519)
}

pub fn sign(key: &Keypair, hash: &Digest) -> Signature {
    Signature(key.sign_simple(b"substrate", hash).to_bytes())
}

/// As a browser extension signs.
pub fn sign_wrapped(key: &Keypair, hash: &Digest) -> Signature {
    let [_, wrapped] = signing_payloads(hash);
    Signature(key.sign_simple(b"substrate", &wrapped).to_bytes())
}

pub fn voucher(channel: ChannelId, lane: LaneIndex, head: &LaneHead) -> Voucher {
    Voucher {
        version: FORMAT_VERSION,
        domain: DOMAIN,
        channel,
        lane,
        sequence: head.sequence + 1,
        prev_receipt: head.receipt,
        prev_cum: head.cumulative,
        max_fee: 1_000_000,
        revision: 7,
        terms: 1,
        agent: None,
        request_commit: request_commit(&SALT, BODY),
        chunk: 256,
        max_in: 1_000,
        max_out: 400,
        evidence: EvidenceClass::Open,
        expiry: 100,
    }
}

pub fn signed(voucher: Voucher) -> SignedVoucher {
    SignedVoucher {
        signature: sign(&keypair(1), &voucher.hash()),
        voucher,
    }
}

pub fn receipt(voucher: &Voucher, tokens_in: u32, tokens_out: u32) -> Receipt {
    let fee = (Balance::from(tokens_in) * PRICE_IN + Balance::from(tokens_out) * PRICE_OUT) / 1_000;
    Receipt {
        version: FORMAT_VERSION,
        domain: DOMAIN,
        voucher: voucher.hash(),
        worker: WORKER,
        key: 0,
        outcome: Outcome::Complete,
        tokens_in,
        tokens_out,
        fee,
        cum: voucher.prev_cum + fee,
        output_commit: output_commit(&SALT, OUTPUT),
        fingerprint_root: [1; 32],
        attribution_root: [2; 32],
        retrieval_root: [0; 32],
        start_block: 9,
        first_token_ms: 12,
        total_ms: 90,
        backend: BackendClass::CpuF32,
    }
}

pub fn signed_receipt(receipt: Receipt) -> SignedReceipt {
    SignedReceipt::sign(receipt, |hash| sign(&keypair(2), hash))
}

/// An answer on a lane. Its signatures are empty: batches are built from what was checked before.
pub fn answer(
    channel: ChannelId,
    lane: LaneIndex,
    head: &LaneHead,
    revision: RevisionId,
    tokens: (u32, u32),
    credits: &[(u64, Balance)],
) -> DeliveredReceipt {
    let voucher = Voucher {
        revision,
        ..voucher(channel, lane, head)
    };
    DeliveredReceipt {
        voucher: SignedVoucher {
            voucher,
            signature: Signature([0; 64]),
        },
        receipt: SignedReceipt {
            receipt: receipt(&voucher, tokens.0, tokens.1),
            signature: Signature([0; 64]),
        },
        output_salt: SALT,
        credits: credits
            .iter()
            .map(|(contribution, amount)| CreditLine {
                contribution: *contribution,
                reason: CreditReason::Span,
                amount: *amount,
            })
            .collect(),
    }
}
