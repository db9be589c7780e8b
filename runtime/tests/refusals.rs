//! Batches that break a rule, as transactions in blocks: each is refused by the error that names the
//! rule, and of all the state only the submitter's nonce and fee change, which the author receives.
//! Beside each stands the honest batch that differs in nothing else, and it is accepted.

mod common;

use common::{
    account,
    batch::{batch, sign, Answer, Submission},
    blocks::{last_fee, Blocks},
    development,
    market::{self, *},
};
use frame_support::{assert_err, storage::storage_prefix};
use openledger_primitives::{domain::domain, Balance, ChannelId, LaneIndex};
use openledger_runtime::{Balances, Runtime, RuntimeCall, System, OPEN};
use pallet_settlement::Error;
use parity_scale_codec::Decode;
use sp_keyring::Sr25519Keyring;
use std::collections::{BTreeMap, BTreeSet};

type State = BTreeMap<Vec<u8>, Vec<u8>>;
type AccountInfo = frame_system::AccountInfo<u32, pallet_balances::AccountData<Balance>>;

const CONSUMER: Sr25519Keyring = CONSUMERS[0];
/// More than any bond answers for.
const DEPOSIT: Balance = 1_000 * OPEN;

/// What the system pallet notes of a block while it is being made.
const BOOKKEEPING: [&str; 9] = [
    "BlockSize",
    "BlockWeight",
    "EventCount",
    "Events",
    "ExecutionPhase",
    "ExtrinsicCount",
    "ExtrinsicData",
    "ExtrinsicWeightReclaimed",
    "InherentsApplied",
];

/// All state but [`BOOKKEEPING`].
fn state() -> State {
    let passing: Vec<_> = BOOKKEEPING
        .iter()
        .map(|name| storage_prefix(b"System", name.as_bytes()).to_vec())
        .chain([
            b":extrinsic_index".to_vec(),
            b":intrablock_entropy".to_vec(),
        ])
        .collect();
    let mut all = State::new();
    let mut last = Vec::new();
    while let Some(key) = sp_io::storage::next_key(&last) {
        if !passing.iter().any(|prefix| key.starts_with(prefix)) {
            let value = frame_support::storage::unhashed::get_raw(&key);
            all.insert(key.clone(), value.expect("a key has a value"));
        }
        last = key;
    }
    all
}

/// Keys of what one state has and the other has not, or has otherwise.
fn changed(before: &State, after: &State) -> Vec<Vec<u8>> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .cloned()
        .collect()
}

fn account_key(who: Sr25519Keyring) -> Vec<u8> {
    frame_system::Account::<Runtime>::hashed_key_for(account(who))
}

fn account_in(state: &State, who: Sr25519Keyring) -> AccountInfo {
    let bytes = &state[&account_key(who)];
    Decode::decode(&mut bytes.as_slice()).expect("an account")
}

/// The chain with a market, a worker and two channels that batches can be made for.
struct World {
    blocks: Blocks,
    market: Market,
    channels: [ChannelId; 2],
}

impl World {
    fn run(test: impl FnOnce(World)) {
        development().execute_with(|| {
            let mut blocks = Blocks::begin();
            let market = market::found(&mut blocks);
            let served = [market.revisions[0], market.revisions[1], market.base];
            join(&mut blocks, WORKER, SERVICE_KEY, &served);
            let channels = [0, 1].map(|_| open(&mut blocks, CONSUMER, DEPOSIT, 3));
            blocks.next();
            test(World {
                blocks,
                market,
                channels,
            });
        });
    }

    /// An answer of the first adapter that costs one OPEN.
    fn answer(&self, lane: LaneIndex) -> Answer {
        Answer::new(self.channels[0], self.market.revisions[0], (1_000, 0)).on(lane)
    }

    /// A batch of two such answers on two lanes, crediting both contributors.
    fn honest(&self) -> Submission {
        let [dave, eve, _] = self.market.contributions;
        let credits = [(dave, 150_000_000_000), (eve, 50_000_000_000)];
        batch(
            WORKER,
            &[
                self.answer(0).crediting(&credits),
                self.answer(1).crediting(&credits),
            ],
        )
    }

    /// The honest batch as `corrupt` leaves it is refused for `error`.
    #[track_caller]
    fn refuses(&mut self, error: Error<Runtime>, corrupt: impl FnOnce(&mut Submission)) {
        let mut made = self.honest();
        corrupt(&mut made);
        self.refuses_whole(error, &made);
    }

    /// The batch is refused for `error` when the service key submits it.
    #[track_caller]
    fn refuses_whole(&mut self, error: Error<Runtime>, made: &Submission) {
        self.refuses_from(SERVICE_KEY, error, made);
    }

    /// The batch is refused for `error`, at the submitter's cost and with no other effect.
    #[track_caller]
    fn refuses_from(&mut self, who: Sr25519Keyring, error: Error<Runtime>, made: &Submission) {
        let issued = Balances::total_issuance();
        let before = state();
        assert_err!(self.blocks.send(who, made.call()), error);
        let after = state();
        let fee = last_fee(who);
        assert!(fee > 0);

        let mut of_the_fee = [who, AUTHOR].map(account_key);
        of_the_fee.sort();
        assert_eq!(changed(&before, &after), of_the_fee);
        let mut submitter = account_in(&before, who);
        submitter.nonce += 1;
        submitter.data.free -= fee;
        assert_eq!(account_in(&after, who), submitter);
        let mut author = account_in(&before, AUTHOR);
        author.data.free += fee;
        assert_eq!(account_in(&after, AUTHOR), author);
        assert_eq!(Balances::total_issuance(), issued);
        self.blocks.next();
    }

    /// The batch that the refused ones differ from is accepted.
    #[track_caller]
    fn accepts(&mut self, made: &Submission) {
        self.blocks.must(SERVICE_KEY, made.call());
        self.blocks.next();
    }

    #[track_caller]
    fn accepts_honest(&mut self) {
        self.accepts(&self.honest());
    }
}

#[test]
fn a_forged_voucher_is_refused() {
    World::run(|mut world| {
        // Signed by somebody else; changed after it was signed; not signed.
        world.refuses(Error::BadSignature, |made| sign(&mut made.claims[0], 2));
        world.refuses(Error::BadSignature, |made| {
            made.claims[0].voucher.max_fee += 1;
        });
        world.refuses(Error::BadSignature, |made| {
            made.claims[1].signature.0 = [0; 64];
        });
        world.accepts_honest();
    });
}

#[test]
fn a_voucher_of_another_lane_channel_or_chain_is_refused() {
    World::run(|mut world| {
        let [_, other] = world.channels;
        // All of them signed by whom the lane and the channel trust.
        world.refuses(Error::VoucherLane, |made| made.resign(|of| of.lane = 1));
        world.refuses(Error::VoucherChannel, |made| {
            made.resign(|of| of.channel = other);
        });
        world.refuses(Error::VoucherDomain, |made| {
            made.resign(|of| of.domain = domain(&[7; 32], 0));
        });
        // The same chain after a fork.
        let genesis = world.blocks.genesis();
        world.refuses(Error::VoucherDomain, |made| {
            made.resign(|of| of.domain = domain(&genesis.0, 1));
        });
        world.accepts_honest();
    });
}

#[test]
fn a_fee_above_max_fee_is_refused() {
    World::run(|mut world| {
        world.refuses(Error::FeeAboveMax, |made| {
            made.resign(|of| of.max_fee -= 1);
        });
        // Below what the consumer acknowledged is no better.
        world.refuses(Error::BelowAcknowledged, |made| {
            made.resign(|of| of.prev_cum += of.max_fee + 1);
        });
        world.accepts_honest();
    });
}

#[test]
fn a_skipped_or_repeated_sequence_is_refused() {
    World::run(|mut world| {
        world.refuses(Error::SequenceCount, |made| {
            made.claims[0].sequence_to = 2;
            made.resign(|of| of.sequence = 2);
        });
        let first = world.honest();
        world.accepts(&first);
        // The same claims once more, in a batch that is the next in every other respect.
        world.refuses(Error::SequenceRepeated, |made| {
            made.claims = first.claims.clone();
        });
        // And the whole of it.
        world.refuses_whole(Error::BatchSequence, &first);
        world.accepts_honest();
    });
}

#[test]
fn a_claim_after_the_close_is_refused() {
    World::run(|mut world| {
        let [channel, _] = world.channels;
        let close = pallet_settlement::Call::close_channel { channel };
        world.blocks.must(CONSUMER, RuntimeCall::Settlement(close));
        let claim_until = world.blocks.now() + 40;
        world.blocks.go_to(claim_until);
        // Until then, work that was done is paid.
        world.accepts_honest();
        assert_eq!(world.blocks.now(), claim_until + 1);
        world.refuses(Error::ClaimsOver, |_| ());
        let late = world.honest();
        let finish = pallet_settlement::Call::finish_close { channel };
        world.blocks.must(CONSUMER, RuntimeCall::Settlement(finish));
        world.refuses_whole(Error::UnknownChannel, &late);
    });
}

#[test]
fn sums_that_differ_are_refused() {
    World::run(|mut world| {
        world.refuses(Error::ClaimsDifferFromFee, |made| {
            made.claims[0].cumulative -= 1;
        });
        world.refuses(Error::ClaimsDifferFromFee, |made| made.header.fee += 1);
        // A thousand tokens more, at their price.
        world.refuses(Error::UsageDiffersFromFee, |made| {
            made.usage[0].tokens_in += 1_000;
            made.usage[0].fee += PRICES.0;
        });
        // A fee that is not that of its tokens.
        world.refuses(Error::FeeNotTokensTimesPrice, |made| made.usage[0].fee += 1);
        world.refuses(Error::CountsDiffer, |made| made.header.count += 1);
        world.refuses(Error::CountsDiffer, |made| made.usage[0].count += 1);
        world.accepts_honest();
    });
}

#[test]
fn a_credit_outside_the_versions_is_refused() {
    World::run(|mut world| {
        let [_, _, of_other_datanet] = world.market.contributions;
        // It is the last of them, so that credits stay sorted.
        world.refuses(Error::CreditOutsideVersions, |made| {
            made.credits[1].contribution = of_other_datanet;
        });
        world.refuses(Error::CreditOutsideVersions, |made| {
            made.credits[1].contribution = 1_000;
        });
        // Of a revision that answered nothing.
        let other = world.market.revisions[1];
        world.refuses(Error::CreditWithoutUsage, |made| {
            made.credits[1].revision = other;
        });
        world.accepts_honest();
    });
}

#[test]
fn credits_above_the_data_share_are_refused() {
    World::run(|mut world| {
        let credited: Balance = world.honest().credits.iter().map(|line| line.amount).sum();
        assert_eq!(
            credited,
            2 * PRICES.0 / 5,
            "the whole fifth that contributors have"
        );
        world.refuses(Error::CreditsAboveShare, |made| made.credits[0].amount += 1);
        world.accepts_honest();
    });
}

#[test]
fn a_batch_above_the_exposure_is_refused() {
    World::run(|mut world| {
        // Half of the bond is fifty OPEN.
        let of = |world: &World, tokens| {
            let [channel, _] = world.channels;
            let revision = world.market.revisions[0];
            batch(WORKER, &[Answer::new(channel, revision, (tokens, 0))])
        };
        let above = of(&world, 50_001);
        assert_eq!(above.header.fee, BOND / 2 + PRICES.0 / 1_000);
        world.refuses_whole(Error::WindowExposure, &above);
        let most = of(&world, 50_000);
        world.accepts(&most);
        // Nothing is left until the window is over; then liability holds it back.
        let more = of(&world, 1);
        world.refuses_whole(Error::WindowExposure, &more);
        let settled = world.blocks.now() + 20;
        world.blocks.go_to(settled);
        let more = of(&world, 1);
        world.refuses_whole(Error::LiabilityExposure, &more);
        world.blocks.go_to(settled + 10);
        let more = of(&world, 50_000);
        world.accepts(&more);
    });
}

#[test]
fn an_unknown_revision_is_refused() {
    World::run(|mut world| {
        world.refuses(Error::UnknownRevision, |made| {
            made.usage[0].revision = 1_000;
            made.credits.clear();
        });
        world.refuses(Error::UnknownRevision, |made| made.usage[0].terms = 1);
        // Known, and not what the voucher names.
        let base = world.market.base;
        world.refuses(Error::VoucherNotInUsage, |made| {
            made.resign(|of| of.revision = base);
        });
        world.accepts_honest();
    });
}

#[test]
fn a_stranger_is_refused() {
    World::run(|mut world| {
        let made = world.honest();
        world.refuses_from(FOUNDER, Error::NotWorker, &made);
        world.accepts_honest();
    });
}

#[test]
fn the_state_compared_is_the_whole() {
    World::run(|world| {
        // A change anywhere is seen: of an account, a channel, or a note of another pallet.
        let before = state();
        System::inc_consumers(&account(FERDIE)).expect("few");
        assert_ne!(state(), before);
        let before = state();
        pallet_settlement::Channels::<Runtime>::mutate(world.channels[0], |channel| {
            channel.as_mut().expect("open").escrowed += 1;
        });
        assert_ne!(state(), before);
    });
}
