//! The host layout of a weight matrix: panels of sixteen outputs.
//!
//! A matrix `[outputs, inputs]` is stored as `ceil(outputs / 16)` panels; a panel holds, for each input,
//! the sixteen weights of its outputs side by side. A kernel reads a panel front to back and keeps
//! sixteen outputs in one vector. The last panel is filled up with zeros.
//!
//! A matrix whose every value is a BF16 is kept as BF16, which loses nothing and halves the bytes that
//! each step reads.

use crate::aligned::Aligned;

/// Outputs in one panel.
pub const LANES: usize = 16;

/// Which of two neighbouring half words is the low half of their word.
const LOW_HALF: usize = if cfg!(target_endian = "little") { 0 } else { 1 };

/// The upper half of an f32: what a BF16 checkpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// The value, when an f32 is exactly a BF16.
    pub fn exact(value: f32) -> Option<Self> {
        let bits = value.to_bits();
        (bits & 0xffff == 0).then_some(Self((bits >> 16) as u16))
    }

    /// The nearest to a finite f32, ties to even.
    pub fn nearest(value: f32) -> Self {
        let bits = value.to_bits();
        Self(((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }

    /// Its bits.
    pub fn to_bits(self) -> u16 {
        self.0
    }

    /// The value as f32, exactly.
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// How a matrix's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Any values.
    F32,
    /// Values that all are BF16, two to a word.
    Bf16,
}

impl Element {
    /// The narrowest element that holds the values exactly.
    pub fn of(values: &[f32]) -> Self {
        if values.iter().all(|v| Bf16::exact(*v).is_some()) {
            Self::Bf16
        } else {
            Self::F32
        }
    }

    /// Words that so many values take.
    pub fn words(self, values: usize) -> usize {
        match self {
            Self::F32 => values,
            Self::Bf16 => values.div_ceil(2),
        }
    }

    /// Stores values one after the other, rounded to the nearest, in words that are zero before.
    ///
    /// # Panics
    /// When there are fewer words than they take.
    pub fn lay_out(self, values: &[f32], words: &mut [u32]) {
        match self {
            Self::F32 => {
                for (word, v) in words[..values.len()].iter_mut().zip(values) {
                    *word = v.to_bits();
                }
            }
            Self::Bf16 => {
                for (i, v) in values.iter().enumerate() {
                    words[i / 2] |= half_word(i, u32::from(Bf16::nearest(*v).to_bits()));
                }
            }
        }
    }
}

/// The bits of value number `i` in its place within their word.
fn half_word(i: usize, bits: u32) -> u32 {
    if i % 2 == LOW_HALF {
        bits
    } else {
        bits << 16
    }
}

/// Shape of a matrix in panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanelShape {
    /// Rows of the matrix: the width of its result.
    pub outputs: usize,
    /// Columns of the matrix: the width of its argument.
    pub inputs: usize,
    /// How its values are stored.
    pub element: Element,
}

impl PanelShape {
    /// Number of panels.
    pub fn panel_count(self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Words that the values take.
    pub fn words(self) -> usize {
        let values = self.panel_count() * LANES * self.inputs;
        match self.element {
            Element::F32 => values,
            // Sixteen lanes: always an even number.
            Element::Bf16 => values / 2,
        }
    }

    /// Lays out a row-major matrix `[outputs, inputs]` in `words`, which are zero before.
    ///
    /// # Panics
    /// When either slice is not of this shape.
    pub fn lay_out(self, rows: &[f32], words: &mut [u32]) {
        assert_eq!(rows.len(), self.outputs * self.inputs, "matrix shape");
        assert_eq!(words.len(), self.words(), "panel words");
        match self.element {
            Element::F32 => {
                for (place, v) in self.places(rows) {
                    words[place] = v.to_bits();
                }
            }
            Element::Bf16 => {
                for (place, v) in self.places(rows) {
                    words[place / 2] |= half_word(place, v.to_bits() >> 16);
                }
            }
        }
    }

    /// Each value of a row-major matrix with its place among the values of the panels.
    fn places(self, rows: &[f32]) -> impl Iterator<Item = (usize, f32)> + '_ {
        let inputs = self.inputs;
        let rows = rows.chunks_exact(inputs.max(1)).enumerate();
        rows.flat_map(move |(row, values)| {
            let first = row / LANES * LANES * inputs + row % LANES;
            let values = values.iter().enumerate();
            values.map(move |(input, v)| (first + input * LANES, *v))
        })
    }

    /// The matrix whose values are these words.
    ///
    /// # Panics
    /// When the words are not of this shape.
    pub fn view(self, words: &[u32]) -> PanelView<'_> {
        assert_eq!(words.len(), self.words(), "panel words");
        let values = match self.element {
            // SAFETY: every bit pattern is an f32, of the size and alignment of a word.
            Element::F32 => PanelValues::F32(unsafe {
                core::slice::from_raw_parts(words.as_ptr().cast(), words.len())
            }),
            // SAFETY: two `Bf16` are exactly a word, need less alignment, and any bits are one.
            Element::Bf16 => PanelValues::Bf16(unsafe {
                core::slice::from_raw_parts(words.as_ptr().cast(), 2 * words.len())
            }),
        };
        PanelView {
            shape: self,
            values,
        }
    }
}

/// The values of a matrix, panel after panel.
#[derive(Clone, Copy)]
pub enum PanelValues<'a> {
    /// Any values.
    F32(&'a [f32]),
    /// Values that all are BF16.
    Bf16(&'a [Bf16]),
}

/// A weight matrix in panels, wherever its words lie.
#[derive(Clone, Copy)]
pub struct PanelView<'a> {
    shape: PanelShape,
    values: PanelValues<'a>,
}

impl<'a> PanelView<'a> {
    /// Rows of the matrix: the width of its result.
    pub fn outputs(self) -> usize {
        self.shape.outputs
    }

    /// Columns of the matrix: the width of its argument.
    pub fn inputs(self) -> usize {
        self.shape.inputs
    }

    /// Number of panels.
    pub fn panel_count(self) -> usize {
        self.shape.panel_count()
    }

    /// The values.
    pub fn values(self) -> PanelValues<'a> {
        self.values
    }

    /// Name of the type in which the values are kept.
    pub fn type_name(self) -> &'static str {
        match self.values {
            PanelValues::F32(_) => "f32",
            PanelValues::Bf16(_) => "bf16",
        }
    }

    /// Bytes that the values take.
    pub fn bytes(self) -> usize {
        self.shape.words() * size_of::<u32>()
    }

    /// Copies one row of the matrix, as an embedding look-up does.
    ///
    /// # Panics
    /// When the row does not exist or `into` is not `inputs` long.
    pub fn copy_row(self, row: usize, into: &mut [f32]) {
        let PanelShape {
            outputs, inputs, ..
        } = self.shape;
        assert!(row < outputs && into.len() == inputs);
        let first = row / LANES * LANES * inputs + row % LANES;
        match self.values {
            PanelValues::F32(values) => {
                let values = values[first..].iter().step_by(LANES);
                into.iter_mut().zip(values).for_each(|(to, v)| *to = *v);
            }
            PanelValues::Bf16(values) => {
                let values = values[first..].iter().step_by(LANES);
                into.iter_mut()
                    .zip(values)
                    .for_each(|(to, v)| *to = v.to_f32());
            }
        }
    }
}

/// A weight matrix with memory of its own.
pub struct PanelMatrix {
    shape: PanelShape,
    words: Aligned,
}

impl PanelMatrix {
    /// Lays out a row-major matrix `[outputs, inputs]`.
    ///
    /// # Panics
    /// When `rows.len() != outputs * inputs`.
    pub fn from_rows(outputs: usize, inputs: usize, rows: &[f32]) -> Self {
        let shape = PanelShape {
            outputs,
            inputs,
            element: Element::of(rows),
        };
        let mut words = Aligned::huge(shape.words());
        shape.lay_out(rows, words.as_mut_slice());
        Self { shape, words }
    }

    /// The matrix.
    pub fn view(&self) -> PanelView<'_> {
        self.shape.view(self.words.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_should_give_back_its_rows_in_both_widths() {
        for step in [0.5f32, 0.1] {
            let (outputs, inputs) = (21, 5);
            let rows: Vec<f32> = (0..outputs * inputs).map(|i| i as f32 * step).collect();
            let matrix = PanelMatrix::from_rows(outputs, inputs, &rows);
            let matrix = matrix.view();
            assert_eq!(matches!(matrix.values(), PanelValues::Bf16(_)), step == 0.5);
            let mut row = vec![0.0; inputs];
            for (i, expected) in rows.chunks(inputs).enumerate() {
                matrix.copy_row(i, &mut row);
                assert_eq!(row, expected);
            }
        }
    }

    #[test]
    fn values_in_rows_should_be_rounded_to_the_nearest_bf16() {
        let values = [1.0, 1.003_906_3, 1.011_718_8, -0.1, 3.0];
        let mut words = vec![0; Element::Bf16.words(values.len())];
        Element::Bf16.lay_out(&values, &mut words);
        let halves: Vec<f32> = words
            .iter()
            .flat_map(|word| {
                word.to_ne_bytes()
                    .chunks(2)
                    .map(|h| u16::from_ne_bytes([h[0], h[1]]))
                    .collect::<Vec<_>>()
            })
            .map(|bits| Bf16(bits).to_f32())
            .collect();
        // Halfway between two goes to the even one.
        assert_eq!(halves, [1.0, 1.0, 1.015_625, -0.100_097_656, 3.0, 0.0]);
    }
}
