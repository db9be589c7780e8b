//! What a check is written with: tensors in a machine's memory, launches, and the comparison of what
//! came out with what had to.

use super::number::{kept, to_bf16, Real};
use super::{Failure, Machine};
use crate::backend::cuda::calls::{LoraEntry, LoraTile, RowTile};
use crate::backend::cuda::{Address, Call, Storage};
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Bytes before and after every tensor that no kernel may write, and whose numbers are NaN, so that what
/// a kernel reads there shows.
const MARGIN: usize = 256;
/// Every byte of a margin, and of what was not written: a NaN as f32 and as BF16.
const UNWRITTEN: u8 = 0xff;
/// Outputs of a large tensor that are compared: the reference of all of them would take minutes.
const SAMPLE: usize = 4096;

/// Values that lie in memory as bytes in the machine's order.
pub trait Plain: Copy {
    /// Appends its bytes.
    fn put(self, bytes: &mut Vec<u8>);
}

macro_rules! plain {
    ($($type:ty),*) => {
        $(impl Plain for $type {
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_ne_bytes());
            }
        })*
    };
}

plain!(u8, i8, u16, u32, u64, f32);

impl Plain for LoraEntry {
    fn put(self, bytes: &mut Vec<u8>) {
        for address in [self.a, self.b, self.gain] {
            address.0.put(bytes);
        }
        self.rank.put(bytes);
        self.scale.put(bytes);
    }
}

impl Plain for LoraTile {
    fn put(self, bytes: &mut Vec<u8>) {
        for number in [self.first, self.rows, self.slot] {
            number.put(bytes);
        }
    }
}

impl Plain for RowTile {
    fn put(self, bytes: &mut Vec<u8>) {
        for number in [self.first, self.rows, self.sequence] {
            number.put(bytes);
        }
    }
}

/// A tensor that kernels read, with its values as they are stored.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Where it is.
    pub at: Address,
    /// What it holds.
    pub values: Vec<f32>,
}

/// How the numbers of an output are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As tensors are.
    Scalar,
    /// 32-bit floating point whatever tensors are.
    F32,
    /// 32-bit integers.
    U32,
    /// Bytes.
    U8,
}

/// Memory that a kernel writes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Where it is.
    pub at: Address,
    format: Format,
    count: usize,
}

/// A check's hold on a machine.
pub struct Bench<'a> {
    machine: &'a mut dyn Machine,
    /// How tensors are stored.
    pub storage: Storage,
    random: ChaCha8Rng,
}

impl<'a> Bench<'a> {
    /// With random numbers from a seed.
    pub fn new(machine: &'a mut dyn Machine, storage: Storage, seed: u64) -> Self {
        Self {
            machine,
            storage,
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Random numbers of [-1, 1).
    pub fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| self.random.random_range(-1.0..1.0))
            .collect()
    }

    /// A random number below `limit`.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.random.random_range(0..limit)
    }

    /// The numbers from 0 up to `count` in random order.
    pub fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..count).collect();
        for i in (1..numbers.len()).rev() {
            numbers.swap(i, self.random.random_range(0..=i));
        }
        numbers
    }

    fn place(&mut self, contents: &[u8]) -> Result<Address, Failure> {
        let mut bytes = vec![UNWRITTEN; MARGIN];
        bytes.extend(contents);
        bytes.resize(bytes.len() + MARGIN, UNWRITTEN);
        let at = self.machine.upload(&bytes).map_err(Failure::Machine)?;
        Ok(Address(at.0 + MARGIN as u64))
    }

    fn store(&self, values: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(values.len() * 4);
        for value in values {
            match self.storage {
                Storage::F32 => value.put(&mut bytes),
                Storage::Bf16 => to_bf16(*value).put(&mut bytes),
            }
        }
        bytes
    }

    /// A tensor of these values, rounded to storage.
    pub fn tensor(&mut self, mut values: Vec<f32>) -> Result<Tensor, Failure> {
        for value in &mut values {
            *value = kept(*value, self.storage);
        }
        let at = self.place(&self.store(&values))?;
        Ok(Tensor { at, values })
    }

    /// A tensor of random values of [-1, 1).
    pub fn random(&mut self, count: usize) -> Result<Tensor, Failure> {
        let values = self.numbers(count);
        self.tensor(values)
    }

    /// Values as they are.
    pub fn plain<T: Plain>(&mut self, values: &[T]) -> Result<Address, Failure> {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| value.put(&mut bytes));
        self.place(&bytes)
    }

    fn width(&self, format: Format) -> usize {
        match (format, self.storage) {
            (Format::Scalar, Storage::Bf16) => 2,
            (Format::U8, _) => 1,
            _ => 4,
        }
    }

    /// The address of one of a tensor's numbers.
    pub fn element(&self, tensor: Address, index: usize) -> Address {
        Address(tensor.0 + (index * self.width(Format::Scalar)) as u64)
    }

    /// Memory for `count` results, marked as not written.
    pub fn output(&mut self, format: Format, count: usize) -> Result<Output, Failure> {
        let at = self.place(&vec![UNWRITTEN; count * self.width(format)])?;
        Ok(Output { at, format, count })
    }

    /// Memory of scalars that a kernel reads and writes.
    pub fn in_out(&mut self, values: Vec<f32>) -> Result<(Output, Vec<f32>), Failure> {
        let Tensor { at, values } = self.tensor(values)?;
        let output = Output {
            at,
            format: Format::Scalar,
            count: values.len(),
        };
        Ok((output, values))
    }

    /// An output where a kernel writes over what [`Bench::plain`] has placed.
    pub fn written(&self, at: Address, format: Format, count: usize) -> Output {
        Output { at, format, count }
    }

    /// Runs a kernel to its end.
    pub fn launch(&mut self, call: &dyn Call) -> Result<(), Failure> {
        // SAFETY: a check gives a kernel tensors of the shapes that its arguments name. That kernels keep
        // to them is what is checked; margins take what goes wrong by a little.
        unsafe { self.machine.launch(call) }.map_err(Failure::Machine)
    }

    /// The bytes of an output, whose margins nobody has written.
    pub fn bytes(&mut self, output: &Output) -> Result<Vec<u8>, Failure> {
        let size = output.count * self.width(output.format);
        let mut bytes = vec![0; size + 2 * MARGIN];
        let from = Address(output.at.0 - MARGIN as u64);
        self.machine
            .download(from, &mut bytes)
            .map_err(Failure::Machine)?;
        let margins = bytes[..MARGIN].iter().chain(&bytes[MARGIN + size..]);
        if margins.into_iter().any(|byte| *byte != UNWRITTEN) {
            return Err(Failure::Outside);
        }
        Ok(bytes[MARGIN..MARGIN + size].to_vec())
    }

    /// The numbers of an output.
    pub fn read(&mut self, output: &Output) -> Result<Vec<f64>, Failure> {
        let width = self.width(output.format);
        let bytes = self.bytes(output)?;
        let number = |bytes: &[u8]| match *bytes {
            [byte] => f64::from(byte),
            [a, b] => f64::from(f32::from_bits(u32::from(u16::from_ne_bytes([a, b])) << 16)),
            [a, b, c, d] if output.format == Format::U32 => {
                f64::from(u32::from_ne_bytes([a, b, c, d]))
            }
            [a, b, c, d] => f64::from(f32::from_ne_bytes([a, b, c, d])),
            _ => f64::NAN,
        };
        Ok(bytes.chunks_exact(width).map(number).collect())
    }

    /// Every number of an output is what the reference allows for its index. Of large outputs a sample
    /// is compared.
    pub fn expect(
        &mut self,
        what: &'static str,
        output: &Output,
        reference: impl Fn(usize) -> Real,
    ) -> Result<(), Failure> {
        let numbers = self.read(output)?;
        let count = numbers.len();
        let sample: Vec<usize> = if count <= 16 * SAMPLE {
            (0..count).collect()
        } else {
            (0..SAMPLE)
                .map(|_| self.random.random_range(0..count))
                .collect()
        };
        for index in sample {
            let (number, expected) = (numbers[index], reference(index));
            if !expected.allows(number) {
                return Err(Failure::Wrong {
                    what,
                    index,
                    number,
                    expected: expected.value,
                    tolerance: expected.error,
                });
            }
        }
        Ok(())
    }

    /// The bytes of some of an output's numbers.
    pub fn part(
        &mut self,
        output: &Output,
        first: usize,
        count: usize,
    ) -> Result<Vec<u8>, Failure> {
        let width = self.width(output.format);
        Ok(self.bytes(output)?[first * width..(first + count) * width].to_vec())
    }

    /// Two outputs are the same bytes.
    pub fn expect_same(
        &mut self,
        what: &'static str,
        one: &Output,
        other: &Output,
    ) -> Result<(), Failure> {
        let other = self.bytes(other)?;
        self.expect_same_bytes(what, one, &other)
    }

    /// An output is these bytes.
    pub fn expect_same_bytes(
        &mut self,
        what: &'static str,
        one: &Output,
        other: &[u8],
    ) -> Result<(), Failure> {
        let one = self.bytes(one)?;
        match one.iter().zip(other).position(|(a, b)| a != b) {
            None if one.len() == other.len() => Ok(()),
            at => Err(Failure::Differs {
                what,
                byte: at.unwrap_or(one.len().min(other.len())),
            }),
        }
    }
}

/// A number that has to be met exactly; NaN where nothing was to be written.
pub fn exactly(value: f64) -> Real {
    Real { value, error: 0.0 }
}

/// What memory reads as that nobody has written.
pub fn unwritten() -> Real {
    exactly(f64::NAN)
}
