//! Weight matrices as checkpoints store them: floats of several widths, codes under scales, blocks of
//! llama.cpp. A serving engine keeps them so; everybody else asks for their values as f32.

mod blocks;
pub mod fp8;

use std::ops::Range;

use half::{bf16, f16};

pub use blocks::BlockKind;

use crate::error::{ModelError, Result};

const WHAT: &str = "weights";

/// A matrix `[outputs, inputs]` in the type in which it is stored.
#[derive(Clone, Debug)]
pub struct StoredMatrix {
    outputs: usize,
    inputs: usize,
    values: StoredValues,
}

/// The values of a [`StoredMatrix`], row by row.
#[derive(Clone, Debug)]
pub enum StoredValues {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 16-bit brain floats.
    Bf16(Vec<bf16>),
    /// 16-bit IEEE floats.
    F16(Vec<f16>),
    /// Integers of eight bits, each times its scale.
    Int8 {
        /// One code to a value.
        codes: Vec<i8>,
        /// What the codes are multiplied by.
        scales: Scales,
    },
    /// Integers of four bits, each times its scale.
    Int4 {
        /// Two codes to a byte, the lower half first, each eight above its integer; a row begins with
        /// a byte of its own.
        codes: Vec<u8>,
        /// What the integers are multiplied by.
        scales: Scales,
    },
    /// Floats of eight bits with four of exponent and no infinities ([`fp8`]), each times its scale.
    Fp8 {
        /// One code to a value.
        codes: Vec<u8>,
        /// What the floats are multiplied by.
        scales: Scales,
    },
    /// Blocks of a GGUF file.
    Blocks {
        /// Their type.
        kind: BlockKind,
        /// Block after block; a row begins with a block of its own.
        bytes: Vec<u8>,
    },
}

/// The scales of a quantised matrix: one to each run of `group` inputs of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Scales {
    group: usize,
    values: Vec<f32>,
}

impl Scales {
    /// Inputs that share a scale.
    pub fn group(&self) -> usize {
        self.group
    }

    /// `[outputs, inputs / group]`, the last group of a row possibly short.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Scales of one row of `inputs`.
    fn per_row(&self, inputs: usize) -> usize {
        inputs.div_ceil(self.group.max(1))
    }

    fn of_row(&self, row: usize, inputs: usize) -> &[f32] {
        let per_row = self.per_row(inputs);
        &self.values[row * per_row..(row + 1) * per_row]
    }
}

/// Bytes that a row of `inputs` codes of four bits takes.
fn nibble_bytes(inputs: usize) -> usize {
    inputs.div_ceil(2)
}

impl StoredMatrix {
    /// A matrix of these values.
    ///
    /// # Errors
    /// If there are not as many as the shape calls for, a float or a scale is not finite, or a group
    /// is empty.
    pub fn new(outputs: usize, inputs: usize, values: StoredValues) -> Result<Self> {
        let matrix = Self {
            outputs,
            inputs,
            values,
        };
        matrix.check()?;
        Ok(matrix)
    }

    /// Scales for [`Self::new`]: one to each run of `group` inputs.
    pub fn scales(group: usize, values: Vec<f32>) -> Scales {
        Scales { group, values }
    }

    fn check(&self) -> Result<()> {
        let (outputs, inputs) = (self.outputs, self.inputs);
        let count = outputs.checked_mul(inputs);
        let finite = |all: bool| {
            if all {
                Ok(())
            } else {
                Err(ModelError::invalid(WHAT, "a value is not finite"))
            }
        };
        let (found, expected) = match &self.values {
            StoredValues::F32(values) => {
                finite(values.iter().all(|v| v.is_finite()))?;
                (values.len(), count)
            }
            StoredValues::Bf16(values) => {
                finite(values.iter().all(|v| v.is_finite()))?;
                (values.len(), count)
            }
            StoredValues::F16(values) => {
                finite(values.iter().all(|v| v.is_finite()))?;
                (values.len(), count)
            }
            StoredValues::Int8 { codes, .. } => (codes.len(), count),
            StoredValues::Int4 { codes, .. } => {
                (codes.len(), outputs.checked_mul(nibble_bytes(inputs)))
            }
            StoredValues::Fp8 { codes, .. } => {
                finite(codes.iter().all(|code| fp8::is_finite(*code)))?;
                (codes.len(), count)
            }
            StoredValues::Blocks { kind, bytes } => {
                let row = kind.row_bytes(inputs);
                (bytes.len(), row.and_then(|row| row.checked_mul(outputs)))
            }
        };
        if expected != Some(found) {
            return Err(ModelError::invalid(
                WHAT,
                format!("{found} stored values do not make a matrix of {outputs} by {inputs}"),
            ));
        }
        if let Some(scales) = self.scales_of() {
            finite(scales.values.iter().all(|v| v.is_finite()))?;
            let fits = scales.group > 0
                && Some(scales.values.len()) == scales.per_row(inputs).checked_mul(outputs);
            if !fits {
                return Err(ModelError::invalid(
                    WHAT,
                    format!(
                        "{} scales of {} inputs each do not fit a matrix of {outputs} by {inputs}",
                        scales.values.len(),
                        scales.group
                    ),
                ));
            }
        }
        if let StoredValues::Blocks { .. } = self.values {
            let mut row = vec![0.0; inputs];
            for output in 0..outputs {
                self.decode(output, 0, &mut row);
                finite(row.iter().all(|v| v.is_finite()))?;
            }
        }
        Ok(())
    }

    /// Rows: the width of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns: the width of the argument.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The values as they are stored.
    pub fn values(&self) -> &StoredValues {
        &self.values
    }

    /// The scales, if the values have any.
    pub fn scales_of(&self) -> Option<&Scales> {
        match &self.values {
            StoredValues::Int8 { scales, .. }
            | StoredValues::Int4 { scales, .. }
            | StoredValues::Fp8 { scales, .. } => Some(scales),
            _ => None,
        }
    }

    /// Name of the stored type, such as `int8`.
    pub fn type_name(&self) -> &'static str {
        match &self.values {
            StoredValues::F32(_) => "f32",
            StoredValues::Bf16(_) => "bf16",
            StoredValues::F16(_) => "f16",
            StoredValues::Int8 { .. } => "int8",
            StoredValues::Int4 { .. } => "int4",
            StoredValues::Fp8 { .. } => "fp8",
            StoredValues::Blocks { kind, .. } => kind.name(),
        }
    }

    /// Whether the values are codes, so that not every value could be stored.
    pub fn is_quantised(&self) -> bool {
        !matches!(
            self.values,
            StoredValues::F32(_) | StoredValues::Bf16(_) | StoredValues::F16(_)
        )
    }

    /// The values of row `row` from input `from` on, as f32: a code times its scale, rounded once.
    ///
    /// # Panics
    /// When the row has no such values.
    pub fn decode(&self, row: usize, from: usize, into: &mut [f32]) {
        let inputs = self.inputs;
        assert!(row < self.outputs && from + into.len() <= inputs);
        let place = row * inputs + from..row * inputs + from + into.len();
        match &self.values {
            StoredValues::F32(values) => into.copy_from_slice(&values[place]),
            StoredValues::Bf16(values) => {
                into.iter_mut()
                    .zip(&values[place])
                    .for_each(|(to, v)| *to = v.to_f32());
            }
            StoredValues::F16(values) => {
                into.iter_mut()
                    .zip(&values[place])
                    .for_each(|(to, v)| *to = v.to_f32());
            }
            StoredValues::Int8 { codes, scales } => {
                into.iter_mut()
                    .zip(&codes[place])
                    .for_each(|(to, code)| *to = f32::from(*code));
                scale_row(into, from, scales.of_row(row, inputs), scales.group);
            }
            StoredValues::Int4 { codes, scales } => {
                let bytes = nibble_bytes(inputs);
                let codes = &codes[row * bytes..(row + 1) * bytes];
                for (i, to) in into.iter_mut().enumerate() {
                    let column = from + i;
                    let code = codes[column / 2] >> (4 * (column % 2)) & 0xf;
                    *to = f32::from(code) - 8.0;
                }
                scale_row(into, from, scales.of_row(row, inputs), scales.group);
            }
            StoredValues::Fp8 { codes, scales } => {
                into.iter_mut()
                    .zip(&codes[place])
                    .for_each(|(to, code)| *to = fp8::to_f32(*code));
                scale_row(into, from, scales.of_row(row, inputs), scales.group);
            }
            StoredValues::Blocks { kind, bytes } => {
                let length = kind.row_bytes(inputs).unwrap_or(0);
                kind.decode(&bytes[row * length..(row + 1) * length], from, into);
            }
        }
    }

    /// All values as f32, row by row.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.outputs * self.inputs];
        if self.inputs > 0 {
            for (row, into) in values.chunks_exact_mut(self.inputs).enumerate() {
                self.decode(row, 0, into);
            }
        }
        values
    }

    /// The part of the matrix in these rows and columns, in the same type.
    ///
    /// # Errors
    /// If it is not within the matrix, or its columns cut a group of scales, a byte or a block.
    pub fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Result<Self> {
        let (outputs, inputs) = (self.outputs, self.inputs);
        if rows.start > rows.end
            || rows.end > outputs
            || columns.start > columns.end
            || columns.end > inputs
        {
            return Err(ModelError::invalid(
                WHAT,
                format!(
                    "rows {rows:?} and columns {columns:?} of a matrix of {outputs} by {inputs}"
                ),
            ));
        }
        let cuts = |unit: usize| {
            let whole = columns.start == 0 && columns.end == inputs;
            let at_end = columns.end == inputs || columns.end.is_multiple_of(unit);
            if whole || (columns.start.is_multiple_of(unit) && at_end) {
                return Ok(());
            }
            Err(ModelError::invalid(
                WHAT,
                format!(
                    "columns {columns:?} cut a run of {unit} inputs that {} keeps together",
                    self.type_name()
                ),
            ))
        };
        let plain = |width: usize, columns: &Range<usize>| {
            let columns = columns.clone();
            rows.clone()
                .map(move |row| row * width + columns.start..row * width + columns.end)
        };
        let scaled = |scales: &Scales| -> Result<Scales> {
            let per_row = scales.per_row(inputs);
            if per_row > 1 {
                cuts(scales.group)?;
            }
            let first = if per_row > 1 {
                columns.start / scales.group
            } else {
                0
            };
            let last = if per_row > 1 {
                columns.end.div_ceil(scales.group)
            } else {
                per_row
            };
            let values = plain(per_row, &(first..last)).flat_map(|r| scales.values[r].to_vec());
            Ok(Scales {
                group: scales.group.min(columns.len().max(1)),
                values: values.collect(),
            })
        };
        let values = match &self.values {
            StoredValues::F32(values) => StoredValues::F32(gather(values, plain(inputs, &columns))),
            StoredValues::Bf16(values) => {
                StoredValues::Bf16(gather(values, plain(inputs, &columns)))
            }
            StoredValues::F16(values) => StoredValues::F16(gather(values, plain(inputs, &columns))),
            StoredValues::Int8 { codes, scales } => StoredValues::Int8 {
                codes: gather(codes, plain(inputs, &columns)),
                scales: scaled(scales)?,
            },
            StoredValues::Fp8 { codes, scales } => StoredValues::Fp8 {
                codes: gather(codes, plain(inputs, &columns)),
                scales: scaled(scales)?,
            },
            StoredValues::Int4 { codes, scales } => {
                cuts(2)?;
                let bytes = columns.start / 2..columns.end.div_ceil(2);
                StoredValues::Int4 {
                    codes: gather(codes, plain(nibble_bytes(inputs), &bytes)),
                    scales: scaled(scales)?,
                }
            }
            StoredValues::Blocks { kind, bytes } => {
                cuts(kind.values())?;
                let offset = |column| kind.row_bytes(column).unwrap_or(0);
                let part = offset(columns.start)..offset(columns.end);
                StoredValues::Blocks {
                    kind: *kind,
                    bytes: gather(bytes, plain(offset(inputs), &part)),
                }
            }
        };
        Ok(Self {
            outputs: rows.len(),
            inputs: columns.len(),
            values,
        })
    }

    /// The rows in another order: row `i` of the result is row `order(i)` of this matrix.
    pub(crate) fn reordered(self, order: impl Fn(usize) -> usize) -> Result<Self> {
        let mut values = self.part(0..0, 0..self.inputs)?;
        for row in (0..self.outputs).map(order) {
            values.append(self.part(row..row + 1, 0..self.inputs)?)?;
        }
        Ok(values)
    }

    /// Adds the rows of a matrix of the same type and width.
    fn append(&mut self, other: Self) -> Result<()> {
        match (&mut self.values, other.values) {
            (StoredValues::F32(to), StoredValues::F32(from)) => to.extend(from),
            (StoredValues::Bf16(to), StoredValues::Bf16(from)) => to.extend(from),
            (StoredValues::F16(to), StoredValues::F16(from)) => to.extend(from),
            (StoredValues::Blocks { bytes: to, .. }, StoredValues::Blocks { bytes: from, .. }) => {
                to.extend(from);
            }
            _ => return Err(ModelError::invalid(WHAT, "rows of another type")),
        }
        self.outputs += other.outputs;
        Ok(())
    }
}

/// Multiplies values that begin at input `from` of a row by the row's scales.
fn scale_row(values: &mut [f32], from: usize, scales: &[f32], group: usize) {
    let mut column = from;
    let mut rest = values;
    while !rest.is_empty() {
        let run = (group - column % group).min(rest.len());
        let (now, later) = rest.split_at_mut(run);
        let scale = scales[column / group];
        now.iter_mut().for_each(|v| *v *= scale);
        column += run;
        rest = later;
    }
}

fn gather<T: Copy>(values: &[T], ranges: impl Iterator<Item = Range<usize>>) -> Vec<T> {
    let mut parts = Vec::new();
    for range in ranges {
        parts.extend_from_slice(&values[range]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(count: usize) -> impl Iterator<Item = usize> {
        (0..count).map(|i| (i * 37 + 11) % 251)
    }

    /// One matrix `[6, 64]` of every type.
    fn every_type() -> Vec<StoredMatrix> {
        let (outputs, inputs) = (6, 64);
        let count = outputs * inputs;
        let scales = |group: usize| {
            let count = outputs * inputs / group;
            StoredMatrix::scales(
                group,
                codes(count).map(|c| c as f32 * 0.013 + 0.1).collect(),
            )
        };
        let blocks = |kind: BlockKind, inputs: usize| {
            let length = outputs * kind.row_bytes(inputs).unwrap();
            // Small codes everywhere: whatever is a scale among them is finite.
            let bytes = codes(length).map(|c| (c % 60) as u8).collect();
            StoredMatrix::new(outputs, inputs, StoredValues::Blocks { kind, bytes }).unwrap()
        };
        let float = |c: usize| c as f32 - 125.3;
        let values = [
            StoredValues::F32(codes(count).map(float).collect()),
            StoredValues::Bf16(codes(count).map(|c| bf16::from_f32(float(c))).collect()),
            StoredValues::F16(codes(count).map(|c| f16::from_f32(float(c))).collect()),
            StoredValues::Int8 {
                codes: codes(count).map(|c| c as u8 as i8).collect(),
                scales: scales(64),
            },
            StoredValues::Int8 {
                codes: codes(count).map(|c| c as u8 as i8).collect(),
                scales: scales(16),
            },
            StoredValues::Int4 {
                codes: codes(count / 2).map(|c| c as u8).collect(),
                scales: scales(16),
            },
            StoredValues::Fp8 {
                codes: codes(count).map(|c| (c % 120) as u8).collect(),
                scales: scales(64),
            },
        ];
        let mut all: Vec<StoredMatrix> = values
            .into_iter()
            .map(|values| StoredMatrix::new(outputs, inputs, values).unwrap())
            .collect();
        for kind in BlockKind::ALL {
            all.push(blocks(kind, if kind.values() == 32 { 64 } else { 512 }));
        }
        all
    }

    #[test]
    fn a_part_should_hold_the_values_of_its_place_in_every_type() {
        for matrix in every_type() {
            let (outputs, inputs) = (matrix.outputs(), matrix.inputs());
            let whole = matrix.to_f32();
            for (rows, columns) in [
                (0..outputs, 0..inputs / 2),
                (2..5, inputs / 2..inputs),
                (3..3, 0..inputs),
                (1..2, 0..inputs),
            ] {
                let part = matrix.part(rows.clone(), columns.clone()).unwrap();
                let expected: Vec<f32> = rows
                    .flat_map(|row| whole[row * inputs..][columns.clone()].to_vec())
                    .collect();
                assert_eq!(part.to_f32(), expected, "{}", matrix.type_name());
                part.check().unwrap();
            }
            // Any run of a row, whatever groups and blocks it cuts.
            let mut run = vec![0.0; 11];
            matrix.decode(4, 7, &mut run);
            assert_eq!(run, whole[4 * inputs + 7..][..11], "{}", matrix.type_name());
        }
    }

    #[test]
    fn a_part_that_cuts_a_group_should_be_refused() {
        for matrix in every_type() {
            let kept = match matrix.type_name() {
                "f32" | "bf16" | "f16" | "fp8" => continue,
                "int8" if matrix.scales_of().unwrap().group() == 64 => continue,
                "int8" | "int4" => "16",
                _ if matrix.inputs() == 64 => "32",
                _ => "256",
            };
            let error = matrix.part(0..6, 0..6).unwrap_err().to_string();
            assert!(error.contains(kept), "{error}");
        }
        assert!(every_type()[0].part(0..7, 0..1).is_err());
    }

    #[test]
    fn values_that_do_not_fit_or_are_not_finite_should_be_refused() {
        let scales = |values: Vec<f32>| StoredMatrix::scales(2, values);
        let int8 = |values| StoredValues::Int8 {
            codes: vec![1; 8],
            scales: scales(values),
        };
        assert!(StoredMatrix::new(2, 4, int8(vec![1.0; 4])).is_ok());
        let refused = [
            int8(vec![1.0; 3]),
            int8(vec![1.0, 1.0, f32::NAN, 1.0]),
            StoredValues::F32(vec![0.0; 7]),
            StoredValues::F16(vec![f16::INFINITY; 8]),
            StoredValues::Fp8 {
                codes: vec![0x7f; 8],
                scales: scales(vec![1.0; 4]),
            },
            StoredValues::Blocks {
                kind: BlockKind::Q8_0,
                bytes: vec![0; 34],
            },
        ];
        for values in refused {
            assert!(StoredMatrix::new(2, 4, values).is_err());
        }
        let infinite = StoredValues::Blocks {
            kind: BlockKind::Q8_0,
            bytes: vec![0xff; 34],
        };
        assert!(StoredMatrix::new(1, 32, infinite).is_err());
    }
}
