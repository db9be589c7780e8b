//! Blocks and transactions as a node makes them: by `Executive`, with slots, inherents, hooks, fees
//! and nonces.

use super::{account, check_invariants, events};
use frame_support::{
    dispatch::{DispatchClass, DispatchResult},
    traits::Get,
};
use openledger_primitives::BlockNumber;
use openledger_runtime::{
    configs::SlotDuration, AccountId, Balance, Executive, Hash, Header, Runtime, RuntimeCall,
    RuntimeEvent, SignedPayload, System, TxExtension, UncheckedExtrinsic,
};
use parity_scale_codec::Encode;
use sp_consensus_babe::digests::{CompatibleDigestItem, PreDigest, SecondaryPlainPreDigest};
use sp_core::storage::StateVersion;
use sp_keyring::Sr25519Keyring;
use sp_runtime::{
    generic::{Digest, DigestItem, Era},
    traits::Header as _,
};
use std::collections::BTreeMap;

/// Slot of block 0.
const FIRST_SLOT: u64 = 600_000_000;

/// A chain that grows: always inside a block that takes transactions.
pub struct Blocks {
    genesis: Hash,
    parent: Hash,
    number: BlockNumber,
    fees: BTreeMap<AccountId, Balance>,
}

impl Blocks {
    /// Opens block 1 on the state there is.
    pub fn begin() -> Self {
        System::set_block_number(0);
        let header = Header::new(
            0,
            Default::default(),
            state_root(),
            Default::default(),
            Default::default(),
        );
        let genesis = header.hash();
        let mut blocks = Blocks {
            genesis,
            parent: genesis,
            number: 0,
            fees: BTreeMap::new(),
        };
        blocks.open();
        blocks
    }

    /// Hash of block 0.
    pub fn genesis(&self) -> Hash {
        self.genesis
    }

    /// Number of the block that takes transactions.
    pub fn now(&self) -> BlockNumber {
        self.number
    }

    /// Ends the block, checks every pallet's invariants, and opens the next one.
    pub fn next(&mut self) {
        let header = Executive::finalize_block();
        assert_eq!(*header.number(), self.number);
        self.parent = header.hash();
        check_invariants();
        self.open();
    }

    /// [`next`](Self::next) with nothing left over for idle work.
    pub fn next_without_idle_time(&mut self) {
        let all = <Runtime as frame_system::Config>::BlockWeights::get().max_block;
        System::register_extra_weight_unchecked(all, DispatchClass::Mandatory);
        self.next();
    }

    /// Lets blocks pass until `number` takes transactions.
    pub fn go_to(&mut self, number: BlockNumber) {
        while self.number < number {
            self.next();
        }
    }

    /// Applies a transaction that `from` signs. It must be valid; its call may fail.
    pub fn send(&mut self, from: Sr25519Keyring, call: impl Into<RuntimeCall>) -> DispatchResult {
        let outcome = Executive::apply_extrinsic(transaction(from, call.into()))
            .expect("the transaction is valid");
        *self.fees.entry(account(from)).or_default() += last_fee(from);
        outcome
    }

    /// [`send`](Self::send) for a call that must not fail.
    #[track_caller]
    pub fn must(&mut self, from: Sr25519Keyring, call: impl Into<RuntimeCall>) {
        frame_support::assert_ok!(self.send(from, call));
    }

    /// What `who` paid for its transactions.
    pub fn fees_of(&self, who: Sr25519Keyring) -> Balance {
        self.fees.get(&account(who)).copied().unwrap_or_default()
    }

    fn open(&mut self) {
        self.number += 1;
        let slot = FIRST_SLOT + u64::from(self.number);
        let claim = PreDigest::SecondaryPlain(SecondaryPlainPreDigest {
            authority_index: 0,
            slot: slot.into(),
        });
        Executive::initialize_block(&Header::new(
            self.number,
            Default::default(),
            Default::default(),
            self.parent,
            Digest {
                logs: vec![<DigestItem as CompatibleDigestItem>::babe_pre_digest(claim)],
            },
        ));
        let now = slot * SlotDuration::get();
        let time = RuntimeCall::Timestamp(pallet_timestamp::Call::set { now });
        Executive::apply_extrinsic(UncheckedExtrinsic::new_bare(time))
            .expect("the time is valid")
            .expect("the time is set");
    }
}

/// The state's root.
pub fn state_root() -> Hash {
    let root = sp_io::storage::root(StateVersion::V1);
    Hash::from_slice(&root)
}

/// What `from` paid for its latest transaction of the block.
pub fn last_fee(from: Sr25519Keyring) -> Balance {
    events()
        .into_iter()
        .rev()
        .find_map(|event| match event {
            RuntimeEvent::TransactionPayment(
                pallet_transaction_payment::Event::TransactionFeePaid {
                    who, actual_fee, ..
                },
            ) if who == account(from) => Some(actual_fee),
            _ => None,
        })
        .expect("transactions cost something")
}

fn transaction(from: Sr25519Keyring, call: RuntimeCall) -> UncheckedExtrinsic {
    let extension: TxExtension = (
        frame_system::AuthorizeCall::new(),
        frame_system::CheckNonZeroSender::new(),
        frame_system::CheckSpecVersion::new(),
        frame_system::CheckTxVersion::new(),
        frame_system::CheckGenesis::new(),
        frame_system::CheckEra::from(Era::Immortal),
        frame_system::CheckNonce::from(System::account_nonce(account(from))),
        frame_system::CheckWeight::new(),
        pallet_transaction_payment::ChargeTransactionPayment::<Runtime>::from(0),
        frame_metadata_hash_extension::CheckMetadataHash::new(false),
        frame_system::WeightReclaim::new(),
    );
    let payload = SignedPayload::new(call, extension).expect("what is signed is known");
    let signature = payload.using_encoded(|bytes| from.sign(bytes));
    let (call, extension, _) = payload.deconstruct();
    UncheckedExtrinsic::new_signed(call, account(from).into(), signature.into(), extension)
}
