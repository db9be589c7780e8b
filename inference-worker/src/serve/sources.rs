//! Where an answer comes from: its spans in the rows that the revision was trained on.

use super::catalog::{Opened, Served};
use anyhow::{bail, Result};
use openledger_economics::{attribution::credit_amounts, split::share};
use openledger_metering::record::CreditLine;
use openledger_primitives::{receipt::Attribution, Balance};
use serde_json::{json, Value};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Lines of the attribution root, sorted.
    pub attributions: Vec<Attribution>,
    /// The same in planck.
    pub credits: Vec<CreditLine>,
    /// What the client is shown: rows, owners, passages.
    pub sources: Value,
}

/// Passages of the answer in the revision's rows, and what they earn of `fee`. Blocks: rows that are
/// shown may have to be loaded.
///
/// `output` is the canonical tokenisation of the delivered text, so that anybody who has text and
/// index finds the same. `data` is that of the revision, none for a base.
///
/// # Errors
/// When rows that would be shown cannot be had.
pub fn of(
    served: &Served,
    data: Option<&Opened>,
    output: &[u32],
    tokens_out: u32,
    fee: Balance,
) -> Result<Found> {
    let (training, data) = match (&served.training, data) {
        (Some(training), Some(data)) => (training, data),
        // Nothing was said that anybody could have a part in.
        (Some(_), None) if !output.is_empty() => bail!("the index was not loaded"),
        _ => {
            return Ok(Found {
                sources: json!([]),
                ..Found::default()
            })
        }
    };
    let (attributions, spans) = data
        .index()?
        .attribute(output, tokens_out, &training.params);
    let part = share(fee, served.contributors_ppm);
    let credits = credit_amounts(part, &attributions)
        .into_iter()
        .filter(|credit| credit.amount > 0)
        .map(|credit| CreditLine {
            contribution: credit.contribution,
            reason: credit.reason,
            amount: credit.amount,
        })
        .collect();
    let mut sources = Vec::new();
    for span in &spans {
        for holder in &span.holders {
            let Some(line) = attributions
                .iter()
                .find(|line| line.contribution == holder.contribution)
            else {
                continue;
            };
            let key = &holder.source.row;
            let row = data.row(holder.contribution, key.row)?;
            let (owner, text) = row.map_or((None, None), |(owner, text)| (Some(owner), text));
            sources.push(json!({
                "contribution": holder.contribution,
                "datanet": key.datanet,
                "version": key.version,
                "row": key.row,
                "owner": owner.map(|owner| owner.to_string()),
                "share_ppm": line.ppm,
                "reason": line.reason,
                "text": text,
                "span": served.text_of(output, span.start, span.length),
                "bits": f64::from(span.millibits) / 1_000.0,
            }));
        }
    }
    Ok(Found {
        attributions,
        credits,
        sources: Value::Array(sources),
    })
}
