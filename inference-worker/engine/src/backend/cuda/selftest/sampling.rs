//! Checks of `sampling.cu`.

use super::bench::{exactly, Bench, Format};
use super::number::{Chain, Real};
use super::{Check, Extent, Failure};
use crate::backend::cuda::calls::SamplingSupport;

/// No token.
const NOTHING: u32 = u32::MAX;

/// What is special about the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logits {
    Random,
    /// A few different values, so that the order of equals shows.
    Equal,
    /// Some are NaN.
    Broken,
    /// Most are minus infinity, as where a grammar rules tokens out.
    Masked,
}

/// Vocabulary and number of candidates.
type Shape = (usize, usize);

pub(super) fn checks(extent: Extent) -> Vec<Check> {
    let mut shapes = vec![(1, 1), (5, 9), (255, 3), (256, 20), (257, 20), (2000, 40)];
    if extent == Extent::Full {
        shapes.push((151_936, 64));
    }
    let mut checks = Vec::new();
    for shape in shapes {
        for kind in [
            Logits::Random,
            Logits::Equal,
            Logits::Broken,
            Logits::Masked,
        ] {
            checks.push(Check::new("sampling_support", (shape, kind), move |b| {
                support(b, shape, kind)
            }));
        }
    }
    checks
}

fn logits(b: &mut Bench<'_>, count: usize, kind: Logits) -> Vec<f32> {
    let mut logits = b.numbers(count);
    for logit in &mut logits {
        *logit *= 20.0;
        let chosen = b.below(4);
        match kind {
            Logits::Random => {}
            Logits::Equal => *logit = chosen as f32,
            Logits::Broken if chosen == 0 => *logit = f32::NAN,
            Logits::Masked if chosen != 0 => *logit = f32::NEG_INFINITY,
            _ => {}
        }
    }
    if kind == Logits::Broken {
        logits[0] = f32::NAN;
    }
    if kind == Logits::Masked {
        // A row in which nothing is allowed has no probabilities.
        logits[0] = 1.0;
    }
    logits
}

fn support(b: &mut Bench<'_>, (vocabulary, k): Shape, kind: Logits) -> Result<(), Failure> {
    let rows = [1.0f32, 0.25, 5.0];
    let mut all = Vec::new();
    for _ in rows {
        all.extend(logits(b, vocabulary, kind));
    }
    let sums = b.output(Format::F32, rows.len() * 2)?;
    let values = b.output(Format::F32, rows.len() * k)?;
    let ids = b.output(Format::U32, rows.len() * k)?;
    let call = SamplingSupport {
        sums: sums.at,
        values: values.at,
        ids: ids.at,
        logits: b.plain(&all)?,
        inverse_temperature: b.plain(&rows)?,
        vocabulary: vocabulary as u32,
        k: k as u32,
        rows: rows.len() as u32,
    };
    b.launch(&call)?;
    expect(
        b,
        &all,
        &rows,
        k,
        [&sums, &values, &ids],
        Chain::of(vocabulary.div_ceil(256) + 5 + 8),
    )
}

/// Two log-sum-exps and the largest logits of each row, in order.
fn expect(
    b: &mut Bench<'_>,
    logits: &[f32],
    inverses: &[f32],
    k: usize,
    [sums, values, ids]: [&super::bench::Output; 3],
    chain: Chain,
) -> Result<(), Failure> {
    let vocabulary = logits.len() / inverses.len();
    let mut order = Vec::new();
    for row in logits.chunks_exact(vocabulary) {
        let mut places: Vec<usize> = (0..vocabulary).filter(|i| !row[*i].is_nan()).collect();
        places.sort_by(|i, j| row[*j].total_cmp(&row[*i]).then(i.cmp(j)));
        places.truncate(k);
        order.push(places);
    }
    b.expect("sums", sums, |i| {
        let row = &logits[i / 2 * vocabulary..][..vocabulary];
        let inverse = if i % 2 == 0 { 1.0 } else { inverses[i / 2] };
        if row.iter().any(|logit| logit.is_nan()) {
            return exactly(f64::NAN);
        }
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let terms = row.iter().filter(|l| **l > f32::NEG_INFINITY);
        let terms = terms.map(|l| Real::from(*l).plus(-largest).by(inverse).exp());
        Real::sum(terms, chain)
            .ln()
            .plus(Real::from(largest).by(inverse))
    })?;
    b.expect("ids", ids, |i| {
        let id = order[i / k].get(i % k).copied();
        exactly(id.map_or(NOTHING.into(), |id| id as f64))
    })?;
    b.expect("values", values, |i| {
        let row = &logits[i / k * vocabulary..][..vocabulary];
        let id = order[i / k].get(i % k);
        exactly(id.map_or(f64::NEG_INFINITY, |id| row[*id].into()))
    })
}
