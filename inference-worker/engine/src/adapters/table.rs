//! What is where in an adapter: one run of words, the same in host memory and on the device.
//!
//! A host copy has the device's layout, so that loading is a copy, and a layer is one range, so that
//! the copy of a layer can be waited for by itself.

use super::AdapterId;
use crate::panels::{Element, PanelShape, PanelView};
use openledger_model::Site;
use std::ops::Range;
use std::sync::Arc;

/// How the matrices of an adapter lie in memory, which is for the device to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Panels of sixteen outputs, each matrix in the narrowest element that holds it exactly.
    Panels,
    /// Row by row, each value rounded to this element.
    Rows(Element),
}

/// Where a matrix lies among an adapter's words.
#[derive(Clone, Copy, Debug)]
pub struct MatrixPlace {
    /// Its shape.
    pub shape: PanelShape,
    /// How its values lie.
    pub arrangement: Arrangement,
    /// Its first word.
    pub first: usize,
}

impl MatrixPlace {
    /// Its words.
    pub fn words(&self) -> Range<usize> {
        let words = match self.arrangement {
            Arrangement::Panels => self.shape.words(),
            Arrangement::Rows(element) => element.words(self.shape.outputs * self.shape.inputs),
        };
        self.first..self.first + words
    }

    /// The matrix in panels within `words`, which begin with the adapter's word number `start`.
    ///
    /// # Panics
    /// When it is not among them, or not in panels.
    pub fn view<'a>(&self, start: usize, words: &'a [u32]) -> PanelView<'a> {
        let first = self.first - start;
        self.shape.view(&words[first..first + self.shape.words()])
    }

    /// Lays out its values, row by row, among the adapter's words.
    pub(super) fn lay_out(&self, values: &[f32], words: &mut [u32]) {
        let words = &mut words[self.words()];
        match self.arrangement {
            Arrangement::Panels => self.shape.lay_out(values, words),
            Arrangement::Rows(element) => element.lay_out(values, words),
        }
    }
}

/// One low-rank pair: `y += scale · B (A x)`, or with a gain `y = gain ⊙ y + scale · B (A x)`.
#[derive(Clone, Copy, Debug)]
pub struct SitePlace {
    /// `[rank, inputs]`.
    pub a: MatrixPlace,
    /// `[outputs, rank]`; with a gain, its rows times the gain.
    pub b: MatrixPlace,
    /// `alpha / rank`, or `alpha / √rank` with rsLoRA.
    pub scale: f32,
    /// First word of the gain `[outputs]` of a DoRA, in f32.
    pub gain: Option<usize>,
}

impl SitePlace {
    /// The gain within `words`, which begin with the adapter's word number `start`; none unless the
    /// adapter is a DoRA.
    ///
    /// # Panics
    /// When it is not among them.
    pub fn gain<'a>(&self, start: usize, words: &'a [u32]) -> Option<&'a [f32]> {
        let first = self.gain? - start;
        let words = &words[first..first + self.b.shape.outputs];
        // SAFETY: every bit pattern is an f32, of the size and alignment of a word.
        Some(unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), words.len()) })
    }

    /// The word after its last.
    pub(super) fn end(&self) -> usize {
        match self.gain {
            Some(first) => first + self.b.shape.outputs,
            None => self.b.words().end,
        }
    }
}

/// One layer of an adapter.
#[derive(Clone, Debug, Default)]
pub(super) struct LayerPlace {
    pub(super) words: Range<usize>,
    pub(super) sites: [Option<SitePlace>; Site::ALL.len()],
}

/// What an adapter is and where its matrices lie; the same in host memory and on the device.
#[derive(Clone, Debug)]
pub struct AdapterTable {
    pub(super) id: AdapterId,
    pub(super) arrangement: Arrangement,
    pub(super) layers: Vec<LayerPlace>,
    pub(super) words: usize,
    pub(super) max_rank: usize,
    /// The tables of the ranks after the first.
    pub(super) others: Vec<Arc<AdapterTable>>,
}

impl AdapterTable {
    /// What is where on rank `rank` of a device of several; of one, the table itself.
    pub fn shard(&self, rank: usize) -> &AdapterTable {
        match rank.checked_sub(1).and_then(|other| self.others.get(other)) {
            Some(other) => other,
            None => self,
        }
    }

    /// The digest of configuration and weights.
    pub fn id(&self) -> AdapterId {
        self.id
    }

    /// The same table under another name, for measurements with many adapters alike.
    pub fn named(&self, id: AdapterId) -> Self {
        Self { id, ..self.clone() }
    }

    /// How its matrices lie.
    pub fn arrangement(&self) -> Arrangement {
        self.arrangement
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The pair at a matrix of a layer.
    pub fn site(&self, layer: usize, site: Site) -> Option<&SitePlace> {
        self.layers.get(layer)?.sites.get(site.index())?.as_ref()
    }

    /// The words of a layer; empty when the adapter leaves it as it is.
    pub fn layer_words(&self, layer: usize) -> Range<usize> {
        self.layers.get(layer).map_or(0..0, |l| l.words.clone())
    }

    /// Bytes of the weights. Every rank of several has as much room as the one that needs most.
    pub fn bytes(&self) -> usize {
        let words = self.others.iter().map(|o| o.words).max().unwrap_or(0);
        words.max(self.words) * (1 + self.others.len()) * size_of::<u32>()
    }

    /// The largest rank of its pairs.
    pub fn max_rank(&self) -> usize {
        self.max_rank
    }
}
