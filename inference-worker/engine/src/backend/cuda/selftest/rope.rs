//! Checks of `rope_kv.cu`.

use super::attention::PAGE_TOKENS;
use super::bench::{unwritten, Bench, Format, Tensor};
use super::number::{Chain, Real};
use super::{Check, Extent, Failure};
use crate::backend::cuda::calls::RopeKv;
use crate::backend::cuda::Address;

const EPSILON: f32 = 1e-2;
const LAYERS: usize = 3;
/// Which layer's keys and values are written.
const LAYER: usize = 1;
const TABLE_STRIDE: usize = 4;

/// Queries' heads, keys' heads, whether there is a bias, whether heads are normalised.
type Shape = (usize, usize, bool, bool);

pub(super) fn checks(dim: usize, extent: Extent) -> Vec<Check> {
    let mut shapes = vec![
        (1, 1, false, false),
        (4, 2, true, false),
        (7, 1, false, true),
        (3, 3, true, true),
    ];
    if extent == Extent::Full {
        shapes.push((32, 8, true, true));
    }
    let check = |shape: Shape| Check::new("rope_kv", (dim, shape), move |b| rope_kv(b, dim, shape));
    shapes.into_iter().map(check).collect()
}

fn rope_kv(
    b: &mut Bench<'_>,
    dim: usize,
    (heads, kv_heads, biased, normed): Shape,
) -> Result<(), Failure> {
    let half = dim / 2;
    let all = heads + 2 * kv_heads;
    // Sequence and position of each row.
    let rows = [(0usize, 0usize), (0, 1), (2, 15), (1, 16), (2, 17), (1, 40)];
    let qkv = b.random(rows.len() * all * dim)?;
    let absent = Tensor {
        at: Address::NULL,
        values: Vec::new(),
    };
    let maybe = |b: &mut Bench<'_>, there: bool, count: usize| match there {
        true => b.random(count),
        false => Ok(absent.clone()),
    };
    let bias = maybe(b, biased, all * dim)?;
    let q_norm = maybe(b, normed, dim)?;
    let k_norm = maybe(b, normed, dim)?;
    let angles: Vec<f32> = b
        .numbers(41 * half)
        .iter()
        .flat_map(|angle| [(3.0 * angle).cos(), (3.0 * angle).sin()])
        .collect();
    let pages = 3 * TABLE_STRIDE + 2;
    let tables = b.shuffled(pages as u32);
    let layer = 2 * kv_heads * PAGE_TOKENS * dim;
    let page = LAYERS * layer;
    let kv = b.output(Format::Scalar, pages * page)?;
    let q = b.output(Format::Scalar, rows.len() * heads * dim)?;
    let positions: Vec<u32> = rows.iter().map(|row| row.1 as u32).collect();
    let sequences: Vec<u32> = rows.iter().map(|row| row.0 as u32).collect();
    let call = RopeKv {
        q: q.at,
        kv: b.element(kv.at, LAYER * layer),
        qkv: qkv.at,
        bias: bias.at,
        q_norm: q_norm.at,
        k_norm: k_norm.at,
        angles: b.plain(&angles)?,
        positions: b.plain(&positions)?,
        sequences: b.plain(&sequences)?,
        tables: b.plain(&tables)?,
        page_stride: page as u64,
        table_stride: TABLE_STRIDE as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        epsilon: EPSILON,
        rows: rows.len() as u32,
        head_dim: dim as u32,
    };
    b.launch(&call)?;

    let storage = b.storage;
    let head = |row: usize, head: usize| -> Vec<Real> {
        let mut values: Vec<Real> = qkv.values[(row * all + head) * dim..][..dim]
            .iter()
            .map(|v| Real::from(*v))
            .collect();
        if biased {
            for (value, bias) in values.iter_mut().zip(&bias.values[head * dim..]) {
                *value = value.plus(*bias);
            }
        }
        if head >= heads + kv_heads {
            return values;
        }
        if normed {
            let norm = if head < heads { &q_norm } else { &k_norm };
            let squares = Real::dot(values.iter().map(|v| (*v, *v)), Chain::of(2 + 5 + 4));
            let mean = squares.over(dim as f32).plus(EPSILON);
            let inverse = Real::from(1.0).over(mean.sqrt());
            for (value, weight) in values.iter_mut().zip(&norm.values) {
                *value = value.by(inverse).by(*weight);
            }
        }
        let turned = |d: usize| {
            let at = (rows[row].1 * half + d % half) * 2;
            let (cosine, sine) = (angles[at], angles[at + 1]);
            let (low, high) = (values[d % half], values[d % half + half]);
            if d < half {
                low.fma(cosine, high.by(sine).negated())
            } else {
                high.fma(cosine, low.by(sine))
            }
        };
        (0..dim).map(turned).collect()
    };
    let mut stored = vec![unwritten(); pages * page];
    let mut queries = Vec::new();
    for (row, (sequence, position)) in rows.iter().enumerate() {
        for which in 0..all {
            let values = head(row, which).into_iter().map(|v| v.stored(storage));
            if which < heads {
                queries.extend(values);
                continue;
            }
            // Keys first, then values.
            let number = tables[sequence * TABLE_STRIDE + position / PAGE_TOKENS] as usize;
            let at = number * page
                + LAYER * layer
                + ((which - heads) * PAGE_TOKENS + position % PAGE_TOKENS) * dim;
            stored[at..at + dim]
                .iter_mut()
                .zip(values)
                .for_each(|(to, value)| *to = value);
        }
    }
    b.expect("q", &q, |i| queries[i])?;
    b.expect("kv", &kv, |i| stored[i])
}
