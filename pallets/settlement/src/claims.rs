//! Claims of a batch: each against its channel, lane, signer and voucher.

use crate::{Channel, ChannelState, Channels, Config, Error, Lane, Lanes, Pallet};
use alloc::vec::Vec;
use frame_support::ensure;
use openledger_primitives::{
    batch::{Claim, Usage},
    crypto::signing_payloads,
    domain::domain,
    Balance, BlockNumber, Digest, PublicKey, Signature, FORMAT_VERSION,
};
use openledger_traits::Parameters;
use sp_core::sr25519;
use sp_runtime::DispatchError;

/// What every claim of a batch is held against.
struct Context<'a> {
    domain: Digest,
    now: BlockNumber,
    grace: BlockNumber,
    usage: &'a [Usage],
}

impl<T: Config> Pallet<T> {
    /// The signing domain of this chain and fork.
    pub fn signing_domain() -> Digest {
        let genesis = frame_system::Pallet::<T>::block_hash(
            frame_system::pallet_prelude::BlockNumberFor::<T>::default(),
        );
        let mut bytes = Digest::default();
        for (to, from) in bytes.iter_mut().zip(genesis.as_ref()) {
            *to = *from;
        }
        domain(&bytes, T::Parameters::settlement().fork_nonce)
    }

    /// Checks the claims, sorted by channel and lane, and moves what they take into escrow.
    /// Returns what each adds to its lane's charge.
    pub(crate) fn apply_claims(
        worker: &T::AccountId,
        claims: &[Claim],
        usage: &[Usage],
    ) -> Result<Vec<Balance>, DispatchError> {
        ensure!(
            claims.is_sorted_by(|a, b| a.key() < b.key()),
            Error::<T>::ClaimsUnsorted
        );
        let context = Context {
            domain: Self::signing_domain(),
            now: Self::now(),
            grace: T::Parameters::settlement().voucher_grace,
            usage,
        };
        let mut amounts = Vec::with_capacity(claims.len());
        for of_channel in claims.chunk_by(|a, b| a.channel == b.channel) {
            Self::apply_claims_of_channel(worker, &context, of_channel, &mut amounts)?;
        }
        Ok(amounts)
    }

    fn apply_claims_of_channel(
        worker: &T::AccountId,
        context: &Context<'_>,
        claims: &[Claim],
        amounts: &mut Vec<Balance>,
    ) -> Result<(), DispatchError> {
        let Some(id) = claims.first().map(|claim| claim.channel) else {
            return Ok(());
        };
        let mut channel = Channels::<T>::get(id).ok_or(Error::<T>::UnknownChannel)?;
        ensure!(channel.worker == *worker, Error::<T>::ForeignChannel);
        if let ChannelState::Closing { claim_until } = channel.state {
            ensure!(context.now <= claim_until, Error::<T>::ClaimsOver);
        }
        let before = channel.escrowed;
        for claim in claims {
            let lane = Lanes::<T>::get(id, claim.lane).ok_or(Error::<T>::UnknownLane)?;
            let amount = Self::check_claim(context, &channel, &lane, claim)?;
            Self::charge(context, &mut channel, &lane, amount)?;
            Self::check_signature(&lane.signer, claim)?;
            Lanes::<T>::insert(
                id,
                claim.lane,
                Lane {
                    next_sequence: claim
                        .sequence_to
                        .checked_add(1)
                        .ok_or(Error::<T>::Overflow)?,
                    cumulative: claim.cumulative,
                    ..lane
                },
            );
            amounts.push(amount);
        }
        Self::escrow_from(&channel.consumer, channel.escrowed.saturating_sub(before))?;
        Channels::<T>::insert(id, channel);
        Ok(())
    }

    /// Checks a claim against its lane and its voucher. Returns what it adds to the charge.
    fn check_claim(
        context: &Context<'_>,
        channel: &Channel<T::AccountId>,
        lane: &Lane,
        claim: &Claim,
    ) -> Result<Balance, Error<T>> {
        let voucher = &claim.voucher;
        must(
            claim.sequence_to >= lane.next_sequence,
            Error::SequenceRepeated,
        )?;
        let claimed = claim
            .sequence_to
            .checked_sub(lane.next_sequence)
            .and_then(|distance| distance.checked_add(1));
        must(claimed == Some(claim.count.into()), Error::SequenceCount)?;
        let amount = claim
            .cumulative
            .checked_sub(lane.cumulative)
            .ok_or(Error::CumulativeFell)?;

        must(voucher.version == FORMAT_VERSION, Error::VoucherVersion)?;
        must(voucher.domain == context.domain, Error::VoucherDomain)?;
        must(voucher.channel == claim.channel, Error::VoucherChannel)?;
        must(voucher.lane == claim.lane, Error::VoucherLane)?;
        must(
            voucher.sequence == claim.sequence_to,
            Error::VoucherSequence,
        )?;
        must(voucher.evidence == channel.evidence, Error::VoucherEvidence)?;
        let charged = claim
            .cumulative
            .checked_sub(voucher.prev_cum)
            .ok_or(Error::BelowAcknowledged)?;
        must(charged <= voucher.max_fee, Error::FeeAboveMax)?;
        must(
            voucher.expiry.saturating_add(context.grace) >= context.now,
            Error::VoucherExpired,
        )?;
        must(
            context
                .usage
                .binary_search_by_key(&(voucher.revision, voucher.terms), Usage::key)
                .is_ok(),
            Error::VoucherNotInUsage,
        )?;
        Ok(amount)
    }

    /// Takes `amount` from the deposit and from what the lane's signer may spend.
    fn charge(
        context: &Context<'_>,
        channel: &mut Channel<T::AccountId>,
        lane: &Lane,
        amount: Balance,
    ) -> Result<(), Error<T>> {
        let signer = channel
            .signers
            .iter_mut()
            .find(|signer| signer.key == lane.signer)
            .ok_or(Error::SignerExpired)?;
        must(context.now <= signer.valid_until, Error::SignerExpired)?;
        signer.spent = signer
            .spent
            .checked_add(amount)
            .filter(|spent| *spent <= signer.limit)
            .ok_or(Error::SignerLimit)?;
        channel.deposit = channel
            .deposit
            .checked_sub(amount)
            .ok_or(Error::DepositTooSmall)?;
        channel.escrowed = channel
            .escrowed
            .checked_add(amount)
            .ok_or(Error::Overflow)?;
        Ok(())
    }

    fn check_signature(signer: &PublicKey, claim: &Claim) -> Result<(), Error<T>> {
        let Signature(signature) = claim.signature;
        let signature = sr25519::Signature::from_raw(signature);
        let key = sr25519::Public::from_raw(*signer);
        must(
            signing_payloads(&claim.voucher.hash())
                .iter()
                .any(|payload| sp_io::crypto::sr25519_verify(&signature, payload, &key)),
            Error::BadSignature,
        )
    }
}

fn must<T>(holds: bool, otherwise: Error<T>) -> Result<(), Error<T>> {
    holds.then_some(()).ok_or(otherwise)
}
