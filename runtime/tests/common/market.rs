//! Who takes part, and what must stand before anything can be asked: Datanets with sealed versions,
//! a base with two adapters and their terms, workers and channels. All of it by signed transactions.

use super::{account, batch::key, blocks::Blocks};
use openledger_primitives::{
    contribution::{Provenance, Submission},
    licence::Licence,
    merkle,
    receipt::BackendClass,
    revision::{AttributionParams, ModelRef, RevisionFacts, Targets, VersionUse},
    row::RowLeaf,
    sketch,
    terms::Split,
    voucher::EvidenceClass,
    AdapterId, Balance, BaseId, ChannelId, ContributionId, DatanetId, LaneIndex, RevisionId,
    VersionIndex,
};
use openledger_runtime::{Runtime, RuntimeCall, OPEN};
use pallet_datanets::{Admission, DataKind};
use pallet_workers::Capability;
use sp_keyring::Sr25519Keyring;

/// Produces the blocks, and so has the fees of transactions.
pub const AUTHOR: Sr25519Keyring = Sr25519Keyring::Alice;
/// Serves.
pub const WORKER: Sr25519Keyring = Sr25519Keyring::Bob;
/// Signs and submits for [`WORKER`].
pub const SERVICE_KEY: Sr25519Keyring = Sr25519Keyring::One;
/// Serves too.
pub const OTHER_WORKER: Sr25519Keyring = Sr25519Keyring::EveStash;
/// Signs and submits for [`OTHER_WORKER`].
pub const OTHER_SERVICE_KEY: Sr25519Keyring = Sr25519Keyring::Two;
/// Founds the Datanets; elsewhere somebody who merely passes by.
pub const FOUNDER: Sr25519Keyring = Sr25519Keyring::Charlie;
/// Contributes to the first Datanet.
pub const DAVE: Sr25519Keyring = Sr25519Keyring::Dave;
/// Contributes to the first Datanet.
pub const EVE: Sr25519Keyring = Sr25519Keyring::Eve;
/// Contributes to the second Datanet.
pub const FERDIE: Sr25519Keyring = Sr25519Keyring::Ferdie;
/// Develops the adapters.
pub const DEVELOPER: Sr25519Keyring = Sr25519Keyring::DaveStash;
/// Registered the base.
pub const BASE_OWNER: Sr25519Keyring = Sr25519Keyring::FerdieStash;
/// Ask and pay.
pub const CONSUMERS: [Sr25519Keyring; 3] = [
    Sr25519Keyring::AliceStash,
    Sr25519Keyring::BobStash,
    Sr25519Keyring::CharlieStash,
];

/// What a worker bonds.
pub const BOND: Balance = 100 * OPEN;
/// What a worker gives its service key to pay transactions with.
pub const ALLOWANCE: Balance = 10 * OPEN;
/// Least that contributors get of the price of 1,000 tokens.
pub const ROYALTY: Balance = 100_000_000;
/// Who gets what of a fee.
pub const SPLIT: Split = Split {
    worker: 600_000,
    developer: 150_000,
    holders: 0,
    contributors: 200_000,
    protocol: 50_000,
};
/// Prices of the first adapter: a thousand tokens in, and out.
pub const PRICES: (Balance, Balance) = (OPEN, 2 * OPEN);
/// Prices of the second adapter.
pub const OTHER_PRICES: (Balance, Balance) = (2_000_000_000, 8_000_000_000);
/// Prices of the base: fees at them divide by nothing.
pub const BASE_PRICES: (Balance, Balance) = (333_333_333_333, 777_777_777_777);

/// Identifiers of what was founded.
#[derive(Clone, Copy, Debug)]
pub struct Market {
    /// Datanets with one sealed version each.
    pub datanets: [DatanetId; 2],
    /// Contributions of [`DAVE`] and [`EVE`] to the first, and of [`FERDIE`] to the second.
    pub contributions: [ContributionId; 3],
    /// One revision of each adapter, trained on one Datanet each.
    pub revisions: [RevisionId; 2],
    /// The base without an adapter.
    pub base: RevisionId,
}

/// Founds everything up to the terms.
pub fn found(blocks: &mut Blocks) -> Market {
    let datanets = [found_datanet(blocks), found_datanet(blocks)];
    let contributions = [
        contribute(blocks, DAVE, datanets[0], &rows("the lighthouse", 3)),
        contribute(blocks, EVE, datanets[0], &rows("the ferry", 2)),
        contribute(blocks, FERDIE, datanets[1], &rows("the mill", 5)),
    ];
    blocks.next();
    let versions = [
        seal(blocks, datanets[0], &contributions[..2]),
        seal(blocks, datanets[1], &contributions[2..]),
    ];
    blocks.next();
    let (base_id, base) = register_base(blocks);
    let mut revisions = [0; 2];
    for (index, prices) in [PRICES, OTHER_PRICES].into_iter().enumerate() {
        let adapter = register_adapter(blocks, base_id);
        revisions[index] = publish(blocks, adapter, datanets[index], versions[index]);
        set_terms(blocks, adapter, prices);
        blocks.next();
    }
    Market {
        datanets,
        contributions,
        revisions,
        base,
    }
}

/// Founds a Datanet that permits everything.
pub fn found_datanet(blocks: &mut Blocks) -> DatanetId {
    let id = pallet_datanets::NextDatanet::<Runtime>::get();
    let call = pallet_datanets::Call::create {
        kind: DataKind::Text,
        licence: Licence::ALL,
        schema: [1; 32],
        admission: Admission::Open,
        access_price: 0,
        min_royalty: ROYALTY,
        contribution_bond: OPEN,
        private: false,
    };
    blocks.must(FOUNDER, RuntimeCall::Datanets(call));
    id
}

/// Rows about a subject.
pub fn rows(subject: &str, count: u32) -> Vec<RowLeaf> {
    (0..count)
        .map(|row| RowLeaf::new(row, format!("fact {row} about {subject}").as_bytes(), 0))
        .collect()
}

/// Contributes rows by their root.
pub fn contribute(
    blocks: &mut Blocks,
    by: Sr25519Keyring,
    datanet: DatanetId,
    rows: &[RowLeaf],
) -> ContributionId {
    let id = pallet_datanets::NextContribution::<Runtime>::get();
    let hashes: Vec<_> = rows.iter().map(RowLeaf::hash).collect();
    let content_root = merkle::root(&hashes);
    let submission = Submission {
        content_root,
        sketch_scheme: sketch::SCHEME,
        rows: rows.len() as u32,
        bytes: 64 * rows.len() as u64,
        provenance: Provenance::Original,
        rights: [0; 32],
        licence: Licence::ALL,
        locator: content_root,
    };
    let call = pallet_datanets::Call::contribute {
        datanet,
        submission,
    };
    blocks.must(by, RuntimeCall::Datanets(call));
    id
}

/// Admits contributions and seals them into a version.
pub fn seal(
    blocks: &mut Blocks,
    datanet: DatanetId,
    contributions: &[ContributionId],
) -> VersionIndex {
    let admit = pallet_datanets::Call::admit {
        datanet,
        contributions: contributions.to_vec().try_into().expect("few"),
    };
    blocks.must(FOUNDER, RuntimeCall::Datanets(admit));
    let seal = pallet_datanets::Call::seal_version { datanet };
    blocks.must(FOUNDER, RuntimeCall::Datanets(seal));
    pallet_datanets::Datanets::<Runtime>::get(datanet)
        .expect("it was founded")
        .versions
}

/// Registers a base. Returns it and its revision.
pub fn register_base(blocks: &mut Blocks) -> (BaseId, RevisionId) {
    let id = pallet_models::NextBase::<Runtime>::get();
    let revision = pallet_models::NextRevision::<Runtime>::get();
    let call = pallet_models::Call::register_base {
        name: b"base".to_vec().try_into().expect("short"),
        manifest: [2; 32],
        licence: Licence::ALL,
        price_in: BASE_PRICES.0,
        price_out: BASE_PRICES.1,
        split: SPLIT,
    };
    blocks.must(BASE_OWNER, RuntimeCall::Models(call));
    (id, revision)
}

/// Registers an adapter on a base.
pub fn register_adapter(blocks: &mut Blocks, base: BaseId) -> AdapterId {
    let id = pallet_models::NextAdapter::<Runtime>::get();
    let name = b"adapter".to_vec().try_into().expect("short");
    let call = pallet_models::Call::register_adapter { base, name };
    blocks.must(DEVELOPER, RuntimeCall::Models(call));
    id
}

/// Publishes a revision that was trained on a version.
pub fn publish(
    blocks: &mut Blocks,
    adapter: AdapterId,
    datanet: DatanetId,
    version: VersionIndex,
) -> RevisionId {
    let id = pallet_models::NextRevision::<Runtime>::get();
    let trained_on = VersionUse {
        datanet,
        version,
        grant: None,
    };
    let call = pallet_models::Call::publish_revision {
        adapter,
        facts: RevisionFacts {
            adapter_digest: [3; 32],
            rank: 8,
            targets: Targets::ALL_LINEAR,
            manifest: [4; 32],
            index: [5; 32],
            null: [0; 32],
            evaluation: [6; 32],
            attribution: AttributionParams::default(),
        },
        versions: vec![trained_on].try_into().expect("few"),
    };
    blocks.must(DEVELOPER, RuntimeCall::Models(call));
    id
}

/// Sets an adapter's first terms.
pub fn set_terms(blocks: &mut Blocks, adapter: AdapterId, prices: (Balance, Balance)) {
    let call = pallet_models::Call::set_terms {
        model: ModelRef::Adapter(adapter),
        price_in: prices.0,
        price_out: prices.1,
        split: SPLIT,
    };
    blocks.must(DEVELOPER, RuntimeCall::Models(call));
}

/// A worker joins with [`BOND`] and a service key, which then announces what is served.
pub fn join(
    blocks: &mut Blocks,
    worker: Sr25519Keyring,
    service_key: Sr25519Keyring,
    serves: &[RevisionId],
) {
    let call = pallet_workers::Call::join {
        bond: BOND,
        service_key: account(service_key),
        endpoint: b"http://worker.example:8000"
            .to_vec()
            .try_into()
            .expect("short"),
        capability: Capability {
            backend: BackendClass::CpuF32,
            memory_mib: 1_024,
            max_batch: 16,
            engine: b"engine/1".to_vec().try_into().expect("short"),
            evidence: EvidenceClass::Open,
        },
    };
    blocks.must(worker, RuntimeCall::Workers(call));
    let allowance = pallet_balances::Call::transfer_keep_alive {
        dest: account(service_key).into(),
        value: ALLOWANCE,
    };
    blocks.must(worker, RuntimeCall::Balances(allowance));
    let serve = pallet_workers::Call::serve {
        revisions: serves.to_vec().try_into().expect("few"),
    };
    blocks.must(service_key, RuntimeCall::Workers(serve));
}

/// The call that opens a channel whose vouchers signer number `signer` signs, without limits.
pub fn open_channel(
    worker: Sr25519Keyring,
    deposit: Balance,
    lanes: LaneIndex,
    signer: u8,
) -> RuntimeCall {
    RuntimeCall::Settlement(pallet_settlement::Call::open_channel {
        worker: account(worker),
        deposit,
        lanes,
        signer: key(signer),
        limit: Balance::MAX,
        valid_until: u32::MAX,
        evidence: EvidenceClass::Open,
    })
}

/// Opens a channel to [`WORKER`] for which signer 1 signs.
pub fn open(
    blocks: &mut Blocks,
    consumer: Sr25519Keyring,
    deposit: Balance,
    lanes: LaneIndex,
) -> ChannelId {
    let id = pallet_settlement::NextChannel::<Runtime>::get();
    blocks.must(consumer, open_channel(WORKER, deposit, lanes, 1));
    id
}
