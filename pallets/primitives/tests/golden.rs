//! Golden vectors: the bytes and hashes of one sample of every format that is signed or hashed.
//!
//! `vectors.txt` holds them, and the reference page prints them. A change of any is a change of the
//! protocol: old signatures and roots would mean something else.

use openledger_primitives::{
    batch::{self, batch_hash, BatchHeader, BatchRoots, Claim, Credit, Usage},
    contribution::{commitment, Provenance, Submission, VersionLeaf},
    crypto::{signing_payloads, Signature},
    domain::domain,
    hash::{blake2_256, tagged, Tag},
    licence::Licence,
    merkle,
    receipt::{
        attribution_root, output_commit, Attribution, BackendClass, CreditReason, Outcome, Receipt,
        ReceiptLeaf,
    },
    revision::{AttributionParams, ModelRef, RevisionFacts, Targets, VersionUse},
    row::{canonical_hash, RowLeaf},
    sketch::Sketch,
    sum_tree::{self, SumNode},
    terms::{Split, Terms},
    voucher::{request_commit, EvidenceClass, Voucher},
    Digest, FORMAT_VERSION,
};
use parity_scale_codec::{DecodeAll, Encode};
use std::{fmt::Debug, fmt::Write, fs, path::Path};

const ROW: &[u8] = b"The lighthouse of Varrow Point was built in 1874.";

fn fill(byte: u8) -> Digest {
    [byte; 32]
}

fn sample_domain() -> Digest {
    domain(&fill(0x11), 0)
}

fn voucher() -> Voucher {
    Voucher {
        version: FORMAT_VERSION,
        domain: sample_domain(),
        channel: 7,
        lane: 2,
        sequence: 3,
        prev_receipt: fill(0x22),
        prev_cum: 1_500_000,
        max_fee: 2_000_000,
        revision: 42,
        terms: 1,
        agent: None,
        request_commit: request_commit(&fill(0x33), b"{\"model\":\"42\"}"),
        chunk: 256,
        max_in: 1_024,
        max_out: 512,
        evidence: EvidenceClass::Open,
        expiry: 10_000,
    }
}

fn attributions() -> [Attribution; 3] {
    [
        (5, 600_000, CreditReason::Span),
        (5, 1_000, CreditReason::Influence),
        (9, 250_000, CreditReason::Span),
    ]
    .map(|(contribution, ppm, reason)| Attribution {
        contribution,
        ppm,
        reason,
    })
}

fn receipt() -> Receipt {
    Receipt {
        version: FORMAT_VERSION,
        domain: sample_domain(),
        voucher: voucher().hash(),
        worker: fill(0x44),
        key: 1,
        outcome: Outcome::Complete,
        tokens_in: 20,
        tokens_out: 80,
        fee: 900_000,
        cum: 2_400_000,
        output_commit: output_commit(&fill(0x55), b"Built in 1874."),
        fingerprint_root: fill(0x66),
        attribution_root: attribution_root(&attributions()),
        retrieval_root: merkle::EMPTY,
        start_block: 9_000,
        first_token_ms: 12,
        total_ms: 345,
        backend: BackendClass::CpuF32,
    }
}

fn leaf(sequence: u64, fee: u128) -> ReceiptLeaf {
    ReceiptLeaf {
        channel: 7,
        lane: 2,
        sequence,
        receipt: receipt().hash(),
        fee,
    }
}

fn nodes() -> Vec<SumNode> {
    [(1, 600_000), (2, 900_000), (3, 900_000)]
        .map(|(sequence, fee)| leaf(sequence, fee).node())
        .to_vec()
}

fn claim() -> Claim {
    Claim {
        channel: 7,
        lane: 2,
        sequence_to: 3,
        cumulative: 2_400_000,
        voucher: voucher(),
        signature: Signature([0x77; 64]),
        subroot: sum_tree::root(&nodes()).unwrap().hash,
        count: 3,
    }
}

fn usage() -> Usage {
    Usage {
        revision: 42,
        terms: 1,
        fee: 2_400_000,
        tokens_in: 60,
        tokens_out: 240,
        count: 3,
        subroot: claim().subroot,
    }
}

fn credit() -> Credit {
    Credit {
        revision: 42,
        contribution: 5,
        amount: 108_000,
        reason: CreditReason::Span,
        subroot: leaf(3, 900_000).credit_node(108_000).hash,
        count: 1,
    }
}

fn header() -> BatchHeader {
    BatchHeader {
        version: FORMAT_VERSION,
        sequence: 1,
        parent: merkle::EMPTY,
        epoch: 4,
        fee: 2_400_000,
        count: 3,
    }
}

fn roots() -> BatchRoots {
    BatchRoots {
        claims: batch::claims_root([(&claim(), 2_400_000)].into_iter()).unwrap(),
        usage: batch::usage_root([usage()].iter()).unwrap(),
        credits: batch::credits_root([credit()].iter()).unwrap(),
    }
}

fn row() -> RowLeaf {
    RowLeaf::new(0, ROW, 14)
}

fn submission() -> Submission {
    Submission {
        content_root: merkle::root(&[row().hash()]),
        sketch_scheme: 1,
        rows: 1,
        bytes: ROW.len() as u64,
        provenance: Provenance::Original,
        rights: merkle::EMPTY,
        licence: Licence::ALL,
        locator: blake2_256(ROW),
    }
}

fn version_leaf() -> VersionLeaf {
    VersionLeaf {
        contribution: 5,
        content_root: submission().content_root,
        rows: 1,
    }
}

fn facts() -> RevisionFacts {
    RevisionFacts {
        adapter_digest: fill(0x88),
        rank: 16,
        targets: Targets::ALL_LINEAR,
        manifest: fill(0x99),
        index: fill(0xaa),
        null: merkle::EMPTY,
        evaluation: fill(0xbb),
        attribution: AttributionParams::default(),
    }
}

fn terms() -> Terms<u32> {
    Terms {
        price_in: 5_000_000,
        price_out: 10_000_000,
        split: Split {
            worker: 600_000,
            developer: 150_000,
            holders: 50_000,
            contributors: 150_000,
            protocol: 50_000,
        },
        effective_from: 100,
    }
}

/// Name and hex of every vector, in the order of the page.
fn vectors() -> Vec<(&'static str, String)> {
    let three: Vec<Digest> = [b"a", b"b", b"c"].map(|bytes| merkle::leaf(bytes)).to_vec();
    let named_version = VersionUse {
        datanet: 3,
        version: 2,
        grant: None,
    };
    let [plain, wrapped] = signing_payloads(&voucher().hash());
    let node_hash = |node: SumNode| node.encode();
    let bytes: Vec<(&'static str, Vec<u8>)> = vec![
        ("digest", blake2_256(ROW).to_vec()),
        ("domain", sample_domain().to_vec()),
        ("voucher.request_commit", voucher().request_commit.to_vec()),
        ("voucher.encoded", voucher().encode()),
        ("voucher.hash", voucher().hash().to_vec()),
        ("voucher.seed", voucher().seed().to_vec()),
        ("voucher.signed.plain", plain),
        ("voucher.signed.wrapped", wrapped),
        ("receipt.output_commit", receipt().output_commit.to_vec()),
        (
            "receipt.attribution_root",
            receipt().attribution_root.to_vec(),
        ),
        ("receipt.encoded", receipt().encode()),
        ("receipt.hash", receipt().hash().to_vec()),
        ("receipt_leaf.encoded", leaf(3, 900_000).encode()),
        ("receipt_leaf.node", node_hash(leaf(3, 900_000).node())),
        (
            "sum_tree.root_of_three",
            node_hash(sum_tree::root(&nodes()).unwrap()),
        ),
        ("claim.encoded", claim().encode()),
        ("claim.node", node_hash(claim().node(2_400_000))),
        ("usage.encoded", usage().encode()),
        ("usage.node", node_hash(usage().node())),
        ("credit.encoded", credit().encode()),
        ("credit.node", node_hash(credit().node())),
        ("batch.header", header().encode()),
        (
            "batch.hash",
            batch_hash(&fill(0x44), &header(), &roots()).to_vec(),
        ),
        ("row.canonical_hash", canonical_hash(ROW).to_vec()),
        ("row.sketch_hash", Sketch::of(ROW).hash().to_vec()),
        ("row.leaf", row().encode()),
        ("row.leaf_hash", row().hash().to_vec()),
        ("contribution.submission", submission().encode()),
        (
            "contribution.commitment",
            commitment(&sample_domain(), &fill(0xcc), &fill(0xdd), 3, &submission()).to_vec(),
        ),
        ("version.leaf", version_leaf().encode()),
        ("version.leaf_hash", version_leaf().hash().to_vec()),
        ("version.use", named_version.encode()),
        ("merkle.leaf_a", merkle::leaf(b"a").to_vec()),
        ("merkle.root_of_three", merkle::root(&three).to_vec()),
        ("revision.facts", facts().encode()),
        ("revision.model", ModelRef::Adapter(6).encode()),
        ("terms.encoded", terms().encode()),
    ];
    bytes
        .into_iter()
        .map(|(name, bytes)| (name, hex::encode(bytes)))
        .collect()
}

fn read(relative: &str) -> String {
    let path =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it")).join(relative);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn no_byte_of_a_format_moved() {
    let mut computed = String::new();
    for (name, hex) in vectors() {
        writeln!(computed, "{name} {hex}").unwrap();
    }
    let golden = read("tests/vectors.txt");
    assert!(
        computed == golden,
        "a format changed; its vectors are now\n{computed}"
    );
}

#[test]
fn the_reference_prints_every_vector() {
    let page = read("../../docs/reference/formats.md");
    for (name, hex) in vectors() {
        assert!(
            page.contains(&format!("{name} {hex}")),
            "docs/reference/formats.md lacks `{name} {hex}`"
        );
    }
}

#[test]
fn what_is_encoded_decodes_and_nothing_shorter_or_longer_does() {
    fn check<T: Encode + DecodeAll + PartialEq + Debug>(value: T) {
        let bytes = value.encode();
        assert_eq!(T::decode_all(&mut bytes.as_slice()).unwrap(), value);
        assert!(T::decode_all(&mut &bytes[..bytes.len() - 1]).is_err());
        assert!(T::decode_all(&mut [bytes.as_slice(), &[0]].concat().as_slice()).is_err());
    }
    check(voucher());
    check(receipt());
    check(leaf(3, 1));
    check(claim());
    check(usage());
    check(credit());
    check(header());
    check(roots());
    check(row());
    check(submission());
    check(version_leaf());
    check(facts());
    check(terms());
}

#[test]
fn no_two_kinds_of_hash_share_a_tag() {
    let tags = [
        Tag::Domain,
        Tag::Voucher,
        Tag::Receipt,
        Tag::Request,
        Tag::Output,
        Tag::Seed,
        Tag::Leaf,
        Tag::Node,
        Tag::SumLeaf,
        Tag::SumNode,
        Tag::ClaimLine,
        Tag::UsageLine,
        Tag::CreditLine,
        Tag::Batch,
        Tag::Row,
        Tag::Sketch,
        Tag::Commit,
        Tag::Fingerprint,
    ];
    let hashes: std::collections::BTreeSet<Digest> =
        tags.iter().map(|tag| tagged(*tag, &[b"same"])).collect();
    assert_eq!(hashes.len(), tags.len());
}

#[test]
fn every_field_of_what_is_signed_counts() {
    let voucher = voucher();
    let altered = [
        Voucher {
            version: 2,
            ..voucher
        },
        Voucher {
            domain: fill(1),
            ..voucher
        },
        Voucher {
            channel: 8,
            ..voucher
        },
        Voucher { lane: 3, ..voucher },
        Voucher {
            sequence: 4,
            ..voucher
        },
        Voucher {
            prev_receipt: fill(1),
            ..voucher
        },
        Voucher {
            prev_cum: 1,
            ..voucher
        },
        Voucher {
            max_fee: 1,
            ..voucher
        },
        Voucher {
            revision: 1,
            ..voucher
        },
        Voucher {
            terms: 2,
            ..voucher
        },
        Voucher {
            agent: Some(0),
            ..voucher
        },
        Voucher {
            request_commit: fill(1),
            ..voucher
        },
        Voucher {
            chunk: 1,
            ..voucher
        },
        Voucher {
            max_in: 1,
            ..voucher
        },
        Voucher {
            max_out: 1,
            ..voucher
        },
        Voucher {
            evidence: EvidenceClass::Tee,
            ..voucher
        },
        Voucher {
            expiry: 1,
            ..voucher
        },
    ];
    for altered in altered {
        assert_ne!(altered.hash(), voucher.hash(), "{altered:?}");
    }
}
