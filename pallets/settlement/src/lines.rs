//! Usage and credits of a batch, checked against each other, and turned into lines to settle.

use crate::{Config, Error, Line, Pallet};
use alloc::vec::Vec;
use frame_support::ensure;
use openledger_economics::{fee_is_possible, split_fee, Parts};
use openledger_primitives::{
    batch::{Credit, Usage},
    receipt::CreditReason,
    revision::ModelRef,
    Balance,
};
use openledger_traits::{DatanetRegistry, ModelRegistry, PricedRevision};
use sp_runtime::DispatchError;

type Lines<T> = Vec<Line<<T as frame_system::Config>::AccountId>>;

impl<T: Config> Pallet<T> {
    /// The lines of a batch: usage first, then credits, both in their order.
    pub(crate) fn lines(usage: &[Usage], credits: &[Credit]) -> Result<Lines<T>, DispatchError> {
        ensure!(
            usage.is_sorted_by(|a, b| a.key() < b.key()),
            Error::<T>::UsageUnsorted
        );
        ensure!(
            credits.is_sorted_by(|a, b| a.key() < b.key()),
            Error::<T>::CreditsUnsorted
        );
        let mut lines = Vec::with_capacity(usage.len().saturating_add(credits.len()));
        let mut credit_lines = Vec::with_capacity(credits.len());
        let mut rest = credits;
        for of_revision in usage.chunk_by(|a, b| a.revision == b.revision) {
            let Some(first) = of_revision.first() else {
                continue;
            };
            let end = rest.partition_point(|credit| credit.revision <= first.revision);
            let (mine, later) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            rest = later;
            Self::revision_lines(of_revision, mine, &mut lines, &mut credit_lines)?;
        }
        ensure!(rest.is_empty(), Error::<T>::CreditWithoutUsage);
        lines.append(&mut credit_lines);
        Ok(lines)
    }

    /// The lines of one revision. What credits take comes off the contributors' parts, in order.
    fn revision_lines(
        usage: &[Usage],
        credits: &[Credit],
        lines: &mut Lines<T>,
        credit_lines: &mut Lines<T>,
    ) -> Result<(), DispatchError> {
        let mut priced = Vec::with_capacity(usage.len());
        for line in usage {
            priced.push((line, Self::priced_usage(line)?));
        }
        let Some((first, facts)) = priced.first() else {
            return Ok(());
        };
        let mut credited: Balance = 0;
        for credit in credits {
            ensure!(
                credit.revision == first.revision,
                Error::<T>::CreditWithoutUsage
            );
            ensure!(credit.count > 0 && credit.amount > 0, Error::<T>::EmptyLine);
            ensure!(
                matches!(credit.reason, CreditReason::Span | CreditReason::Retrieval),
                Error::<T>::CreditReason
            );
            ensure!(
                T::Datanets::is_sealed_in(credit.contribution, &facts.versions),
                Error::<T>::CreditOutsideVersions
            );
            credited = credited
                .checked_add(credit.amount)
                .ok_or(Error::<T>::Overflow)?;
            credit_lines.push(Line::Credit {
                revision: credit.revision,
                terms: first.terms,
                contribution: credit.contribution,
                amount: credit.amount,
                reason: credit.reason,
            });
        }
        for (line, priced) in priced {
            let mut parts = Self::parts(line.fee, &priced);
            let taken = parts.contributors.min(credited);
            parts.contributors = parts.contributors.saturating_sub(taken);
            credited = credited.saturating_sub(taken);
            lines.push(Line::Usage {
                revision: line.revision,
                developer: priced.developer,
                parts,
            });
        }
        ensure!(credited == 0, Error::<T>::CreditsAboveShare);
        Ok(())
    }

    fn priced_usage(line: &Usage) -> Result<PricedRevision<T::AccountId>, Error<T>> {
        if line.count == 0 {
            return Err(Error::EmptyLine);
        }
        let priced = T::Models::priced(line.revision, line.terms, Self::now())
            .ok_or(Error::UnknownRevision)?;
        if Self::now() > T::Models::accepted_until(line.revision, line.terms) {
            return Err(Error::TermsOver);
        }
        fee_is_possible(
            line.fee,
            line.count,
            line.tokens_in,
            line.tokens_out,
            priced.terms.price_in,
            priced.terms.price_out,
        )
        .then_some(priced)
        .ok_or(Error::FeeNotTokensTimesPrice)
    }

    /// Parts of a fee. A base was trained on no Datanet: its contributors' part is the protocol's.
    pub(crate) fn parts(fee: Balance, priced: &PricedRevision<T::AccountId>) -> Parts {
        let mut parts = split_fee(fee, &priced.terms.split);
        if let ModelRef::Base(_) = priced.model {
            parts.protocol = parts.protocol.saturating_add(parts.contributors);
            parts.contributors = 0;
        }
        parts
    }
}
