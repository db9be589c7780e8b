//! The host layout of a weight matrix: panels of sixteen outputs.
//!
//! A matrix `[outputs, inputs]` is stored as `ceil(outputs / 16)` panels; a panel holds, for each input,
//! the sixteen weights of its outputs side by side. A kernel reads a panel front to back and keeps
//! sixteen outputs in one vector. The last panel is filled up with zeros.
//!
//! A matrix whose every value is a BF16 is kept as BF16, which loses nothing and halves the bytes that
//! each step reads.

/// Outputs in one panel.
pub const LANES: usize = 16;

/// Bytes to which panels are aligned: a cache line.
const ALIGNMENT: usize = 64;

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

    /// The value as f32, exactly.
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// A vector that starts on a cache line.
pub struct Aligned<T> {
    buffer: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    fn new(len: usize) -> Self {
        let spare = ALIGNMENT / size_of::<T>();
        let buffer = vec![T::default(); len + spare];
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(spare);
        Self { buffer, start, len }
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.buffer[self.start..self.start + self.len]
    }

    /// The values.
    pub fn as_slice(&self) -> &[T] {
        &self.buffer[self.start..self.start + self.len]
    }
}

/// The values of a matrix, panel after panel.
pub enum Panels {
    /// Any values.
    F32(Aligned<f32>),
    /// Values that all are BF16.
    Bf16(Aligned<Bf16>),
}

/// A weight matrix in panels.
pub struct PanelMatrix {
    outputs: usize,
    inputs: usize,
    panels: Panels,
}

impl PanelMatrix {
    /// Lays out a row-major matrix `[outputs, inputs]`.
    ///
    /// # Panics
    /// When `rows.len() != outputs * inputs`.
    pub fn from_rows(outputs: usize, inputs: usize, rows: &[f32]) -> Self {
        assert_eq!(rows.len(), outputs * inputs, "matrix shape");
        let len = outputs.div_ceil(LANES) * LANES * inputs;
        let panels = if rows.iter().all(|v| Bf16::exact(*v).is_some()) {
            let mut data = Aligned::new(len);
            lay_out(inputs, rows, data.as_mut_slice(), |v| {
                Bf16::exact(v).unwrap_or_default()
            });
            Panels::Bf16(data)
        } else {
            let mut data = Aligned::new(len);
            lay_out(inputs, rows, data.as_mut_slice(), |v| v);
            Panels::F32(data)
        };
        Self {
            outputs,
            inputs,
            panels,
        }
    }

    /// Rows of the matrix: the width of its result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the matrix: the width of its argument.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of panels.
    pub fn panel_count(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// The values.
    pub fn panels(&self) -> &Panels {
        &self.panels
    }

    /// Bytes that the values take in memory.
    pub fn bytes(&self) -> usize {
        let values = self.panel_count() * LANES * self.inputs;
        match self.panels {
            Panels::F32(_) => values * size_of::<f32>(),
            Panels::Bf16(_) => values * size_of::<Bf16>(),
        }
    }

    /// Copies one row of the matrix, as an embedding look-up does.
    ///
    /// # Panics
    /// When the row does not exist or `into` is not `inputs` long.
    pub fn copy_row(&self, row: usize, into: &mut [f32]) {
        assert!(row < self.outputs && into.len() == self.inputs);
        let first = row / LANES * LANES * self.inputs + row % LANES;

        match &self.panels {
            Panels::F32(data) => {
                let data = data.as_slice()[first..].iter().step_by(LANES);
                into.iter_mut().zip(data).for_each(|(to, v)| *to = *v);
            }
            Panels::Bf16(data) => {
                let data = data.as_slice()[first..].iter().step_by(LANES);
                into.iter_mut()
                    .zip(data)
                    .for_each(|(to, v)| *to = v.to_f32());
            }
        }
    }
}

fn lay_out<T>(inputs: usize, rows: &[f32], panels: &mut [T], convert: impl Fn(f32) -> T) {
    if inputs == 0 {
        return;
    }
    for (row, values) in rows.chunks_exact(inputs).enumerate() {
        let first = row / LANES * LANES * inputs + row % LANES;
        for (i, v) in values.iter().enumerate() {
            panels[first + i * LANES] = convert(*v);
        }
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
            assert_eq!(matches!(matrix.panels(), Panels::Bf16(_)), step == 0.5);
            let mut row = vec![0.0; inputs];
            for (i, expected) in rows.chunks(inputs).enumerate() {
                matrix.copy_row(i, &mut row);
                assert_eq!(row, expected);
            }
        }
    }

    #[test]
    fn a_matrix_should_start_on_a_cache_line() {
        let matrix = PanelMatrix::from_rows(16, 3, &[0.1; 48]);
        let Panels::F32(data) = matrix.panels() else {
            panic!("0.1 is no BF16");
        };
        assert_eq!(data.as_slice().as_ptr() as usize % ALIGNMENT, 0);
    }
}
