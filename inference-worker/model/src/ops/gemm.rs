//! Matrix products on slices, straight onto the `gemm` crate: with accumulation into the result,
//! and with either side transposed for nothing.

use gemm::Parallelism;

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` values, `row_stride` apart.
    ///
    /// # Panics
    /// If the slice is too short; the callers' shapes come from tensors that were checked.
    pub(super) fn strided(
        values: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        assert!(rows == 0 || (rows - 1) * row_stride + columns <= values.len());
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// `rows` rows of `columns` values, one after the other.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// The transpose, without moving anything.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Whether a product spreads over rayon's threads or stays on the caller's.
#[derive(Clone, Copy)]
pub(super) enum Threads {
    /// All of rayon's.
    All,
    /// The caller's only: for products inside tasks that are themselves spread.
    One,
}

/// `result = keep * result + factor * a * b`, where `result` has rows `row_stride` apart.
///
/// # Panics
/// If the shapes do not fit.
pub(super) fn product(
    result: &mut [f32],
    row_stride: usize,
    keep: bool,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows);
    assert!(m == 0 || (m - 1) * row_stride + n <= result.len());
    assert!(m <= 1 || n <= row_stride);
    let parallelism = match threads {
        Threads::All if rayon::current_num_threads() > 1 => {
            Parallelism::Rayon(rayon::current_num_threads())
        }
        _ => Parallelism::None,
    };
    // SAFETY: the assertions here and in `Matrix::strided` keep every element that the product
    // touches within its slice, and the exclusive borrow keeps the result apart from the factors.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            result.as_mut_ptr(),
            1,
            row_stride as isize,
            keep,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0f32,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}
