//! The base's matrices in memory: in panels of floats, or as they are stored.
//!
//! A matrix of codes is never expanded. A product computes the values of some panels over some inputs
//! into a core's cache, multiplies all rows with them, and goes on; the values are those that
//! [`StoredMatrix::decode`] gives, so that the result has the bits of a product with the expanded
//! matrix.

use super::kernels::Isa;
use super::math::per_isa;
use crate::panels::{PanelMatrix, PanelView, LANES};
use half::f16;
use half::slice::HalfFloatSliceExt;
use openledger_model::{StoredMatrix, StoredValues};

/// Inputs whose values are computed at a time: those of four panels take 64 KiB. Even, so that no byte
/// of two codes is cut.
pub const CHUNK: usize = 256;

/// A matrix of the base.
pub enum BaseMatrix {
    /// F32, or BF16 if that is exact.
    Panels(PanelMatrix),
    /// Codes in panels.
    Packed(PackedMatrix),
    /// Blocks of a GGUF file, row by row.
    Blocks(BlockMatrix),
}

/// A matrix of the base, borrowed.
#[derive(Clone, Copy)]
pub enum MatrixView<'a> {
    /// See [`BaseMatrix::Panels`].
    Panels(PanelView<'a>),
    /// See [`BaseMatrix::Packed`].
    Packed(&'a PackedMatrix),
    /// See [`BaseMatrix::Blocks`].
    Blocks(&'a BlockMatrix),
}

/// A matrix whose values are computed as they are needed.
pub trait Unpack: Sync {
    /// Rows of the matrix.
    fn outputs(&self) -> usize;

    /// Columns of the matrix.
    fn inputs(&self) -> usize;

    /// The values of a panel from input `start`, a multiple of [`CHUNK`], on: `[inputs][16]`.
    fn unpack(&self, isa: Isa, panel: usize, start: usize, into: &mut [f32]);
}

impl BaseMatrix {
    /// Lays a stored matrix out.
    pub fn new(stored: &StoredMatrix) -> Self {
        let (outputs, inputs) = (stored.outputs(), stored.inputs());
        match stored.values() {
            StoredValues::F32(values) => {
                Self::Panels(PanelMatrix::from_rows(outputs, inputs, values))
            }
            StoredValues::Bf16(_) => {
                Self::Panels(PanelMatrix::from_rows(outputs, inputs, &stored.to_f32()))
            }
            StoredValues::Blocks { .. } => Self::Blocks(BlockMatrix {
                stored: stored.clone(),
            }),
            _ => Self::Packed(PackedMatrix::new(stored)),
        }
    }

    /// The matrix.
    pub fn view(&self) -> MatrixView<'_> {
        match self {
            Self::Panels(matrix) => MatrixView::Panels(matrix.view()),
            Self::Packed(matrix) => MatrixView::Packed(matrix),
            Self::Blocks(matrix) => MatrixView::Blocks(matrix),
        }
    }

    /// Name of the type in which the values are kept.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Panels(matrix) => matrix.view().type_name(),
            Self::Packed(matrix) => matrix.codes.name(),
            Self::Blocks(matrix) => matrix.stored.type_name(),
        }
    }
}

impl MatrixView<'_> {
    /// Rows: the width of the result.
    pub fn outputs(self) -> usize {
        match self {
            Self::Panels(view) => view.outputs(),
            Self::Packed(matrix) => matrix.outputs,
            Self::Blocks(matrix) => matrix.stored.outputs(),
        }
    }

    /// Columns: the width of the argument.
    pub fn inputs(self) -> usize {
        match self {
            Self::Panels(view) => view.inputs(),
            Self::Packed(matrix) => matrix.inputs,
            Self::Blocks(matrix) => matrix.stored.inputs(),
        }
    }

    /// Number of panels.
    pub fn panel_count(self) -> usize {
        self.outputs().div_ceil(LANES)
    }

    /// Bytes that the matrix takes: codes, scales, and what fills its last panel up.
    pub fn bytes(self) -> usize {
        match self {
            Self::Panels(view) => view.bytes(),
            Self::Packed(matrix) => matrix.bytes(),
            Self::Blocks(matrix) => match matrix.stored.values() {
                StoredValues::Blocks { bytes, .. } => bytes.len(),
                _ => 0,
            },
        }
    }

    /// Copies one row of the matrix, as an embedding look-up does.
    ///
    /// # Panics
    /// When the row does not exist or `into` is not `inputs` long.
    pub fn copy_row(self, row: usize, into: &mut [f32]) {
        match self {
            Self::Panels(view) => view.copy_row(row, into),
            Self::Packed(matrix) => matrix.copy_row(row, into),
            Self::Blocks(matrix) => matrix.stored.decode(row, 0, into),
        }
    }
}

/// Codes in panels of sixteen outputs: for each input the sixteen codes of its outputs side by side.
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    codes: Codes,
    /// Inputs that share a scale.
    group: usize,
    /// `[panels][groups][16]`; none for F16.
    scales: Vec<f32>,
}

enum Codes {
    F16(Vec<f16>),
    Int8(Vec<i8>),
    /// A byte holds two neighbouring inputs of an output, the first in its lower half.
    Int4(Vec<u8>),
    Fp8(Vec<u8>),
}

impl Codes {
    fn name(&self) -> &'static str {
        match self {
            Self::F16(_) => "f16",
            Self::Int8(_) => "int8",
            Self::Int4(_) => "int4",
            Self::Fp8(_) => "fp8",
        }
    }
}

/// Row-major codes `[outputs][width]` in panels; missing rows are `filling`.
fn in_panels<T: Copy>(codes: &[T], width: usize, filling: T) -> Vec<T> {
    let panel = LANES * width.max(1);
    let mut panels = Vec::with_capacity(codes.len().next_multiple_of(panel));
    for rows in codes.chunks(panel) {
        for column in 0..width {
            for lane in 0..LANES {
                panels.push(rows.get(lane * width + column).copied().unwrap_or(filling));
            }
        }
    }
    panels
}

impl PackedMatrix {
    fn new(stored: &StoredMatrix) -> Self {
        let (outputs, inputs) = (stored.outputs(), stored.inputs());
        let codes = match stored.values() {
            StoredValues::F16(values) => Codes::F16(in_panels(values, inputs, f16::ZERO)),
            StoredValues::Int8 { codes, .. } => Codes::Int8(in_panels(codes, inputs, 0)),
            StoredValues::Int4 { codes, .. } => {
                // Eight stands for zero.
                Codes::Int4(in_panels(codes, inputs.div_ceil(2), 0x88))
            }
            StoredValues::Fp8 { codes, .. } => Codes::Fp8(in_panels(codes, inputs, 0)),
            StoredValues::F32(_) | StoredValues::Bf16(_) | StoredValues::Blocks { .. } => {
                unreachable!("kept in panels of floats, or in blocks")
            }
        };
        let (group, scales) = match stored.scales_of() {
            None => (inputs.max(1), Vec::new()),
            Some(scales) => {
                let groups = inputs.div_ceil(scales.group());
                (scales.group(), in_panels(scales.values(), groups, 0.0))
            }
        };
        Self {
            outputs,
            inputs,
            codes,
            group,
            scales,
        }
    }

    fn bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::F16(values) => size_of_val(values.as_slice()),
            Codes::Int8(codes) => codes.len(),
            Codes::Int4(codes) | Codes::Fp8(codes) => codes.len(),
        };
        codes + size_of_val(self.scales.as_slice())
    }

    fn scales_of(&self, panel: usize) -> &[f32] {
        if self.scales.is_empty() {
            return &[];
        }
        let groups = self.inputs.div_ceil(self.group) * LANES;
        &self.scales[panel * groups..(panel + 1) * groups]
    }

    fn copy_row(&self, row: usize, into: &mut [f32]) {
        assert!(row < self.outputs && into.len() == self.inputs);
        let mut values = [0f32; CHUNK * LANES];
        for (number, into) in into.chunks_mut(CHUNK).enumerate() {
            let values = &mut values[..into.len() * LANES];
            self.unpack(Isa::Portable, row / LANES, number * CHUNK, values);
            let lane = values[row % LANES..].iter().step_by(LANES);
            into.iter_mut().zip(lane).for_each(|(to, v)| *to = *v);
        }
    }
}

impl Unpack for PackedMatrix {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn unpack(&self, isa: Isa, panel: usize, start: usize, into: &mut [f32]) {
        let first = (panel * self.inputs + start) * LANES;
        let scales = self.scales_of(panel);
        match &self.codes {
            Codes::F16(values) => values[first..first + into.len()].convert_to_f32_slice(into),
            Codes::Int8(codes) => {
                let codes = &codes[first..first + into.len()];
                unpack_int8(isa, codes, scales, self.group, start, into);
            }
            Codes::Fp8(codes) => {
                let codes = &codes[first..first + into.len()];
                unpack_fp8(isa, codes, scales, self.group, start, into);
            }
            Codes::Int4(codes) => {
                let pairs = self.inputs.div_ceil(2);
                let first = (panel * pairs + start / 2) * LANES;
                let count = (into.len() / LANES).div_ceil(2) * LANES;
                let codes = &codes[first..first + count];
                unpack_int4(isa, codes, scales, self.group, start, into);
            }
        }
    }
}

/// The scales of input `input` within those of its panel.
#[inline(always)]
fn scales_at(scales: &[f32], group: usize, input: usize) -> &[f32; LANES] {
    let first = input / group * LANES;
    match scales[first..first + LANES].as_array() {
        Some(scales) => scales,
        None => &[0.0; LANES],
    }
}

/// Calls `run` for each run of inputs that share their scales: (first and past the last, counted from
/// `start`; scales).
#[inline(always)]
fn runs(
    scales: &[f32],
    group: usize,
    start: usize,
    len: usize,
    mut run: impl FnMut(core::ops::Range<usize>, &[f32; LANES]),
) {
    let mut at = 0;
    while at < len {
        let end = (at + group - (start + at) % group).min(len);
        run(at..end, scales_at(scales, group, start + at));
        at = end;
    }
}

#[inline(always)]
fn unpack_int8_of(codes: &[i8], scales: &[f32], group: usize, start: usize, into: &mut [f32]) {
    let codes = codes.as_chunks::<LANES>().0;
    let into = into.as_chunks_mut::<LANES>().0;
    runs(scales, group, start, codes.len(), |inputs, scales| {
        for (into, codes) in into[inputs.clone()].iter_mut().zip(&codes[inputs]) {
            for lane in 0..LANES {
                into[lane] = f32::from(codes[lane]) * scales[lane];
            }
        }
    });
}

per_isa! {
    fn unpack_int8(codes: &[i8], scales: &[f32], group: usize, start: usize, into: &mut [f32])
        = unpack_int8_of
}

#[inline(always)]
fn unpack_fp8_of(codes: &[u8], scales: &[f32], group: usize, start: usize, into: &mut [f32]) {
    let codes = codes.as_chunks::<LANES>().0;
    let into = into.as_chunks_mut::<LANES>().0;
    runs(scales, group, start, codes.len(), |inputs, scales| {
        for (into, codes) in into[inputs.clone()].iter_mut().zip(&codes[inputs]) {
            for lane in 0..LANES {
                // As `fp8::to_f32`, without a branch: digits times a power of two, both exact.
                let code = u32::from(codes[lane]);
                let exponent = code >> 3 & 0xf;
                let leading = u32::from(exponent != 0);
                let digits = (code & 7 | leading << 3) as i32 as f32;
                let power = f32::from_bits((exponent + (1 - leading) + 117) << 23);
                let magnitude = digits * power;
                let value = f32::from_bits(magnitude.to_bits() | (code & 0x80) << 24);
                into[lane] = value * scales[lane];
            }
        }
    });
}

per_isa! {
    fn unpack_fp8(codes: &[u8], scales: &[f32], group: usize, start: usize, into: &mut [f32])
        = unpack_fp8_of
}

#[inline(always)]
fn unpack_int4_of(codes: &[u8], scales: &[f32], group: usize, start: usize, into: &mut [f32]) {
    let codes = codes.as_chunks::<LANES>().0;
    let into = into.as_chunks_mut::<LANES>().0;
    runs(scales, group, start, into.len(), |inputs, scales| {
        for input in inputs {
            // `start` is even, so that inputs alternate between the halves from the lower on.
            let shift = 4 * (input % 2) as u32;
            let codes = &codes[input / 2];
            let into = &mut into[input];
            for lane in 0..LANES {
                let code = u32::from(codes[lane]) >> shift & 0xf;
                into[lane] = (code as i32 - 8) as f32 * scales[lane];
            }
        }
    });
}

per_isa! {
    fn unpack_int4(codes: &[u8], scales: &[f32], group: usize, start: usize, into: &mut [f32])
        = unpack_int4_of
}

/// Blocks of a GGUF file, as they are stored.
pub struct BlockMatrix {
    stored: StoredMatrix,
}

impl Unpack for BlockMatrix {
    fn outputs(&self) -> usize {
        self.stored.outputs()
    }

    fn inputs(&self) -> usize {
        self.stored.inputs()
    }

    fn unpack(&self, _: Isa, panel: usize, start: usize, into: &mut [f32]) {
        let mut row = [0f32; CHUNK];
        let row = &mut row[..into.len() / LANES];
        for lane in 0..LANES {
            let output = panel * LANES + lane;
            if output < self.stored.outputs() {
                self.stored.decode(output, start, row);
            } else {
                row.fill(0.0);
            }
            let places = into[lane..].iter_mut().step_by(LANES);
            places.zip(row.iter()).for_each(|(to, v)| *to = *v);
        }
    }
}

/// A matrix of every type, of arbitrary values, `inputs` a multiple of 256; for tests.
#[cfg(test)]
pub(super) fn samples(outputs: usize, inputs: usize) -> Vec<StoredMatrix> {
    use half::bf16;
    use openledger_model::BlockKind;
    let count = outputs * inputs;
    let codes = |count: usize| (0..count).map(|i| (i * i % 8191 * 37 + i * 11) % 251);
    let float = |c: usize| (c as f32 - 125.0) * 0.0037;
    let scales = |group: usize| {
        let values = codes(count / group).map(|c| c as f32 * 0.0001 + 0.003);
        StoredMatrix::scales(group, values.collect())
    };
    let mut values = vec![
        StoredValues::F32(codes(count).map(float).collect()),
        StoredValues::Bf16(codes(count).map(|c| bf16::from_f32(float(c))).collect()),
        StoredValues::F16(codes(count).map(|c| f16::from_f32(float(c))).collect()),
    ];
    for group in [inputs, 32] {
        values.push(StoredValues::Int8 {
            codes: codes(count).map(|c| c as u8 as i8).collect(),
            scales: scales(group),
        });
        values.push(StoredValues::Int4 {
            codes: codes(count / 2).map(|c| c as u8).collect(),
            scales: scales(group),
        });
        let finite = |c: usize| if c % 128 == 127 { 3 } else { c as u8 };
        values.push(StoredValues::Fp8 {
            codes: codes(count).map(finite).collect(),
            scales: scales(group),
        });
    }
    for kind in BlockKind::ALL {
        let length = outputs * kind.row_bytes(inputs).unwrap();
        // Small bytes everywhere: whatever is a scale among them is finite.
        values.push(StoredValues::Blocks {
            kind,
            bytes: codes(length).map(|c| (c % 40) as u8).collect(),
        });
    }
    values
        .into_iter()
        .map(|values| StoredMatrix::new(outputs, inputs, values).unwrap())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_laid_out_matrix_should_give_back_its_rows_and_take_the_bytes_of_its_type() {
        let (outputs, inputs) = (64, 512);
        for stored in samples(outputs, inputs) {
            let matrix = BaseMatrix::new(&stored);
            let view = matrix.view();
            assert_eq!((view.outputs(), view.inputs()), (outputs, inputs));
            let expected = stored.to_f32();
            let mut row = vec![0.0; inputs];
            for (i, expected) in expected.chunks(inputs).enumerate() {
                view.copy_row(i, &mut row);
                assert_eq!(row, expected, "{}", stored.type_name());
            }
            let scales = stored.scales_of().map_or(0, |s| 4 * s.values().len());
            let codes = match stored.values() {
                StoredValues::F32(_) => 4 * outputs * inputs,
                StoredValues::Bf16(_) | StoredValues::F16(_) => 2 * outputs * inputs,
                StoredValues::Int8 { .. } | StoredValues::Fp8 { .. } => outputs * inputs,
                StoredValues::Int4 { .. } => outputs * inputs / 2,
                StoredValues::Blocks { kind, .. } => {
                    outputs * inputs / kind.values() * kind.bytes()
                }
            };
            assert_eq!(view.bytes(), codes + scales);
            assert_eq!(matrix.type_name(), stored.type_name());
        }
    }

    #[test]
    fn a_matrix_of_odd_shape_should_give_back_its_rows() {
        // The last panel is short, and so is the last byte of a row.
        let (outputs, inputs) = (21usize, 301usize);
        let scales = |group: usize| {
            let count = outputs * inputs.div_ceil(group);
            StoredMatrix::scales(group, (0..count).map(|i| i as f32 * 0.01 + 0.1).collect())
        };
        for group in [inputs, 7, 100] {
            let codes = |count: usize| (0..count).map(|i| (i * 53 % 256) as u8);
            let values = [
                StoredValues::Int4 {
                    codes: codes(outputs * inputs.div_ceil(2)).collect(),
                    scales: scales(group),
                },
                StoredValues::Int8 {
                    codes: codes(outputs * inputs).map(|c| c as i8).collect(),
                    scales: scales(group),
                },
            ];
            for values in values {
                let stored = StoredMatrix::new(outputs, inputs, values).unwrap();
                let matrix = BaseMatrix::new(&stored);
                let mut row = vec![0.0; inputs];
                for (i, expected) in stored.to_f32().chunks(inputs).enumerate() {
                    matrix.view().copy_row(i, &mut row);
                    assert_eq!(row, expected);
                }
            }
        }
    }
}
