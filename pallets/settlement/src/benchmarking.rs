//! Benchmarks of the calls, each in its worst case.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::*;
use alloc::vec::Vec;
use frame_benchmarking::v2::*;
use frame_support::{
    traits::{fungible::Mutate, Get},
    BoundedVec,
};
use frame_system::RawOrigin;
use openledger_economics::receipt_fee;
use openledger_primitives::{
    batch::{BatchHeader, Claim, Credit, Usage, MAX_CLAIMS, MAX_CREDITS, MAX_USAGE, PAGE},
    crypto::signing_payloads,
    receipt::CreditReason,
    voucher::{EvidenceClass, Voucher},
    Balance, ChannelId, ContributionId, LaneIndex, PublicKey, RevisionId, Signature, TermsIndex,
    FORMAT_VERSION,
};
use openledger_traits::{ModelRegistry, Parameters};
use sp_core::{crypto::KeyTypeId, sr25519};

/// What the benchmarks need of the other pallets.
pub trait BenchmarkHelper<AccountId> {
    /// Makes the account a worker that takes on new channels, with a large bond.
    fn worker(who: &AccountId);
    /// Gives the account a large balance.
    fn fund(who: &AccountId);
    /// Publishes `count` revisions at equal prices, each with as many versions as it may have, of
    /// Datanets that no other has, and says at which terms each is priced.
    fn revisions(count: u32) -> Vec<(RevisionId, TermsIndex)>;
    /// Puts `count` contributions into the revision's versions in turn. Ascending.
    fn contributions(revision: RevisionId, count: u32) -> Vec<ContributionId>;
}

const KEYS: KeyTypeId = KeyTypeId(*b"olvo");

fn signer() -> PublicKey {
    sp_io::crypto::sr25519_generate(KEYS, None).0
}

fn worker<T: Config>() -> T::AccountId {
    let who: T::AccountId = whitelisted_caller();
    T::BenchmarkHelper::worker(&who);
    Pallet::<T>::found_escrow();
    frame_system::Pallet::<T>::set_block_number(1u32.into());
    who
}

fn consumer<T: Config>(index: u32) -> T::AccountId {
    let who: T::AccountId = account("consumer", index, 0);
    T::BenchmarkHelper::fund(&who);
    who
}

fn stake<T: Config>() -> Balance {
    T::Parameters::settlement().min_channel_deposit * 2
}

/// A channel with eight signers, of which the last signs.
fn opened<T: Config>(
    consumer: &T::AccountId,
    worker: &T::AccountId,
    lanes: LaneIndex,
    key: PublicKey,
) -> Result<ChannelId, BenchmarkError> {
    let id = NextChannel::<T>::get();
    let entry = |key| ChannelSigner {
        key,
        limit: Balance::MAX,
        spent: 0,
        valid_until: u32::MAX,
    };
    Pallet::<T>::do_open_channel(
        consumer.clone(),
        worker.clone(),
        stake::<T>(),
        lanes,
        entry(key),
        EvidenceClass::Open,
    )?;
    Channels::<T>::mutate_extant(id, |channel| {
        let others = (1..MAX_SIGNERS as u8).map(|number| entry([number; 32]));
        channel.signers = BoundedVec::truncate_from(others.chain([entry(key)]).collect());
    });
    Ok(id)
}

struct Made {
    header: BatchHeader,
    claims: Vec<Claim>,
    usage: Vec<Usage>,
    credits: Vec<Credit>,
}

/// Parts of `whole` as even as can be, the larger ones first.
fn shares(whole: u32, parts: u32) -> impl Iterator<Item = u32> {
    (0..parts).map(move |part| whole / parts + u32::from(part < whole % parts))
}

/// A claim of `count` receipts of `fee` each on the first lane of a channel.
fn claim<T: Config>(
    channel: ChannelId,
    key: PublicKey,
    (revision, terms): (RevisionId, TermsIndex),
    fee: Balance,
    count: u32,
) -> Result<Claim, BenchmarkError> {
    let cumulative = fee * Balance::from(count);
    let voucher = Voucher {
        version: FORMAT_VERSION,
        domain: Pallet::<T>::signing_domain(),
        channel,
        lane: 0,
        sequence: count.into(),
        prev_receipt: [0; 32],
        prev_cum: cumulative - fee,
        max_fee: fee,
        revision,
        terms,
        agent: None,
        request_commit: [0; 32],
        chunk: 256,
        max_in: 1,
        max_out: 1,
        evidence: EvidenceClass::Open,
        expiry: u32::MAX,
    };
    // Wrapped, so that two signatures are checked.
    let [_, payload] = signing_payloads(&voucher.hash());
    let signature = sp_io::crypto::sr25519_sign(KEYS, &sr25519::Public::from_raw(key), &payload)
        .ok_or(BenchmarkError::Stop("the key signs"))?;
    Ok(Claim {
        channel,
        lane: 0,
        sequence_to: voucher.sequence,
        cumulative,
        voucher,
        signature: Signature(signature.0),
        subroot: [0; 32],
        count,
    })
}

/// A batch of `c` claims, each of a consumer of its own, `u` usage lines of as many revisions, and
/// `r` credits spread over all revisions and over all versions of each, so that as few as possible
/// share what is read for them. Usage lines have the same fee, or differ by one receipt's.
fn made<T: Config>(worker: &T::AccountId, c: u32, u: u32, r: u32) -> Result<Made, BenchmarkError> {
    let key = signer();
    let revisions = T::BenchmarkHelper::revisions(u);
    let named = revisions[0];
    let priced = T::Models::priced(named.0, named.1, 1)
        .ok_or(BenchmarkError::Stop("a revision has no terms"))?;
    // So many tokens that no part of the fee is zero.
    let fee_of = |tokens: u32| {
        receipt_fee(tokens, 0, priced.terms.price_in, priced.terms.price_out).unwrap_or_default()
    };
    let tokens = (1..100_000)
        .find(|tokens| fee_of(*tokens) >= 1_000_000)
        .ok_or(BenchmarkError::Stop("the price is too low to split"))?;
    let fee = fee_of(tokens);
    // As many receipts on the one side as on the other.
    let count = c.max(u);
    let mut claims = Vec::new();
    for (index, receipts) in (0..).zip(shares(count, c)) {
        let channel = opened::<T>(&consumer::<T>(index), worker, 1, key)?;
        claims.push(claim::<T>(channel, key, named, fee, receipts)?);
    }
    let mut usage = Vec::new();
    let mut credits = Vec::new();
    for ((revision, terms), (receipts, credited)) in revisions
        .into_iter()
        .zip(shares(count, u).zip(shares(r, u)))
    {
        let line = Usage {
            revision,
            terms,
            fee: fee * Balance::from(receipts),
            tokens_in: u64::from(tokens) * u64::from(receipts),
            tokens_out: 0,
            count: receipts,
            subroot: [0; 32],
        };
        let part = Pallet::<T>::parts(line.fee, &priced).contributors;
        let amount = part.checked_div(credited.into()).unwrap_or_default();
        usage.push(line);
        let contributions = T::BenchmarkHelper::contributions(revision, credited);
        credits.extend(contributions.into_iter().map(|contribution| Credit {
            revision,
            contribution,
            amount,
            reason: CreditReason::Span,
            subroot: [0; 32],
            count: 1,
        }));
    }
    let (sequence, parent) = Pallet::<T>::next_batch(worker);
    Ok(Made {
        header: BatchHeader {
            version: FORMAT_VERSION,
            sequence,
            parent,
            epoch: T::CurrentEpoch::get(),
            fee: fee * Balance::from(count),
            count,
        },
        claims,
        usage,
        credits,
    })
}

fn submitted<T: Config>(worker: &T::AccountId, made: &Made) -> Result<(), BenchmarkError> {
    Pallet::<T>::do_submit_batch(
        worker,
        &made.header,
        &made.claims,
        &made.usage,
        &made.credits,
    )?;
    Ok(())
}

fn after_window<T: Config>() {
    let windows = T::Parameters::settlement();
    let after = windows.challenge_window + windows.evidence_window + 3;
    frame_system::Pallet::<T>::set_block_number(after.into());
}

#[benchmarks(where T::Currency: Mutate<T::AccountId>)]
mod benchmarks {
    use super::*;

    #[benchmark]
    fn open_channel(l: Linear<1, 256>) {
        let worker = worker::<T>();
        let caller = consumer::<T>(0);

        #[extrinsic_call]
        _(
            RawOrigin::Signed(caller),
            worker,
            stake::<T>(),
            l as LaneIndex,
            [1; 32],
            Balance::MAX,
            u32::MAX,
            EvidenceClass::Open,
        );

        assert_eq!(Lanes::<T>::iter_prefix(0).count(), l as usize);
    }

    #[benchmark]
    fn deposit() -> Result<(), BenchmarkError> {
        let caller = consumer::<T>(0);
        let id = opened::<T>(&caller, &worker::<T>(), 1, [9; 32])?;
        let more = stake::<T>();

        #[extrinsic_call]
        _(RawOrigin::Signed(caller), id, more);

        Ok(())
    }

    #[benchmark]
    fn add_signer() -> Result<(), BenchmarkError> {
        let caller = consumer::<T>(0);
        let id = opened::<T>(&caller, &worker::<T>(), 1, [9; 32])?;
        // All but the last are over and make room.
        Channels::<T>::mutate_extant(id, |channel| {
            for signer in channel.signers.iter_mut().rev().skip(1) {
                signer.valid_until = 0;
            }
        });

        #[extrinsic_call]
        _(RawOrigin::Signed(caller), id, [99; 32], 1, u32::MAX);

        assert_eq!(
            Channels::<T>::get(id).map(|channel| channel.signers.len()),
            Some(2)
        );
        Ok(())
    }

    #[benchmark]
    fn revoke_signer() -> Result<(), BenchmarkError> {
        let caller = consumer::<T>(0);
        let id = opened::<T>(&caller, &worker::<T>(), 1, [9; 32])?;

        #[extrinsic_call]
        _(RawOrigin::Signed(caller), id, [9; 32]);

        Ok(())
    }

    #[benchmark]
    fn add_lanes(l: Linear<1, 255>) -> Result<(), BenchmarkError> {
        let caller = consumer::<T>(0);
        let id = opened::<T>(&caller, &worker::<T>(), 1, [9; 32])?;

        #[extrinsic_call]
        _(RawOrigin::Signed(caller), id, l as LaneIndex);

        assert_eq!(Lanes::<T>::iter_prefix(id).count(), l as usize + 1);
        Ok(())
    }

    #[benchmark]
    fn close_channel() -> Result<(), BenchmarkError> {
        let caller = consumer::<T>(0);
        let id = opened::<T>(&caller, &worker::<T>(), 1, [9; 32])?;

        #[extrinsic_call]
        _(RawOrigin::Signed(caller), id);

        Ok(())
    }

    #[benchmark]
    fn finish_close(l: Linear<1, 256>) -> Result<(), BenchmarkError> {
        let caller = consumer::<T>(0);
        let id = opened::<T>(&caller, &worker::<T>(), l as LaneIndex, [9; 32])?;
        Pallet::<T>::do_close_channel(&caller, id)?;
        frame_system::Pallet::<T>::set_block_number(u32::MAX.into());

        #[extrinsic_call]
        _(RawOrigin::Signed(caller), id);

        assert!(!Channels::<T>::contains_key(id));
        Ok(())
    }

    #[benchmark]
    fn submit_batch(
        c: Linear<1, MAX_CLAIMS>,
        u: Linear<1, MAX_USAGE>,
        r: Linear<0, MAX_CREDITS>,
    ) -> Result<(), BenchmarkError> {
        let worker = worker::<T>();
        let Made {
            header,
            claims,
            usage,
            credits,
        } = made::<T>(&worker, c, u, r)?;

        #[extrinsic_call]
        _(
            RawOrigin::Signed(worker.clone()),
            worker.clone(),
            header,
            BoundedVec::truncate_from(claims),
            BoundedVec::truncate_from(usage),
            BoundedVec::truncate_from(credits),
        );

        assert!(Batches::<T>::contains_key(&worker, 1));
        Ok(())
    }

    #[benchmark]
    fn settle_page(n: Linear<1, PAGE>) -> Result<(), BenchmarkError> {
        let worker = worker::<T>();
        // Usage lines cost more than credits: five parts each.
        let made = made::<T>(&worker, n, n, 0)?;
        submitted::<T>(&worker, &made)?;
        after_window::<T>();

        #[extrinsic_call]
        _(RawOrigin::Signed(worker.clone()), worker.clone(), 1);

        assert_eq!(
            Batches::<T>::get(&worker, 1).map(|batch| batch.state),
            Some(BatchState::Settled)
        );
        Ok(())
    }

    #[benchmark]
    fn release_liability(n: Linear<1, MAX_RELEASED>) -> Result<(), BenchmarkError> {
        let worker = worker::<T>();
        let mut next = made::<T>(&worker, 1, 1, 0)?;
        for sequence in 1..=n {
            submitted::<T>(&worker, &next)?;
            if sequence < n {
                next = made::<T>(&worker, 1, 1, 0)?;
            }
        }
        after_window::<T>();
        for sequence in 1..=n {
            Pallet::<T>::do_settle_page(&worker, sequence.into())?;
        }

        #[extrinsic_call]
        _(RawOrigin::Signed(worker.clone()), worker.clone());

        assert_eq!(Batches::<T>::iter_prefix(&worker).count(), 0);
        Ok(())
    }

    #[benchmark]
    fn cut_deposit() -> Result<(), BenchmarkError> {
        let caller = consumer::<T>(0);
        let id = opened::<T>(&caller, &worker::<T>(), 1, [9; 32])?;

        #[extrinsic_call]
        _(RawOrigin::Signed(caller), id, 1);

        Ok(())
    }

    #[benchmark]
    fn finish_cut() -> Result<(), BenchmarkError> {
        let caller = consumer::<T>(0);
        let id = opened::<T>(&caller, &worker::<T>(), 1, [9; 32])?;
        Pallet::<T>::do_cut_deposit(&caller, id, stake::<T>())?;
        frame_system::Pallet::<T>::set_block_number(u32::MAX.into());

        #[extrinsic_call]
        _(RawOrigin::Signed(caller), id);

        Ok(())
    }

    #[benchmark]
    fn next_due() -> Result<(), BenchmarkError> {
        let worker = worker::<T>();
        let made = made::<T>(&worker, 1, 1, 0)?;
        submitted::<T>(&worker, &made)?;
        after_window::<T>();

        let due;
        #[block]
        {
            due = Pallet::<T>::next_due();
        }

        assert_eq!(due.map(|(_, batch)| batch), Some((worker, 1)));
        Ok(())
    }

    impl_benchmark_test_suite!(Pallet, crate::mock::ext(), crate::mock::Test);
}
