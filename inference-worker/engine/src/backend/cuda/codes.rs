//! Weights that are stored as codes with scales, on the device as in their checkpoint.

use super::calls::{GemmFp8, GemmInt4, GemmInt8};
use super::device::{Device, DeviceError, Kernels, Memory, Stream};
use super::launch::Address;
use crate::error::EngineError;
use openledger_model::{StoredMatrix, StoredValues};
use std::sync::Arc;

/// How weights are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Integers of eight bits.
    Int8,
    /// Integers of four bits, two to a byte.
    Int4,
    /// E4M3 floats.
    Fp8,
}

impl Code {
    /// Bytes of so many codes of a row.
    fn bytes(self, inputs: usize) -> usize {
        match self {
            Self::Int8 | Self::Fp8 => inputs,
            Self::Int4 => inputs / 2,
        }
    }
}

/// The codes of matrices one below the other, on the host.
#[derive(Debug)]
pub struct HostCodes {
    code: Code,
    group: usize,
    bytes: Vec<u8>,
    scales: Vec<f32>,
}

impl HostCodes {
    /// Of matrices that share their argument; none if they are not stored as codes.
    ///
    /// # Errors
    /// When they are stored in different ways, or in one that the kernels do not read.
    pub fn of(matrices: &[&StoredMatrix]) -> Result<Option<Self>, String> {
        let mut all: Option<Self> = None;
        for (number, matrix) in matrices.iter().enumerate() {
            let inputs = matrix.inputs();
            let (code, bytes, scales) = match matrix.values() {
                StoredValues::Int8 { codes, scales } => {
                    let bytes = codes.iter().map(|code| code.to_ne_bytes()[0]).collect();
                    (Code::Int8, bytes, scales)
                }
                StoredValues::Int4 { codes, scales } => {
                    if !inputs.is_multiple_of(2) || scales.group() % 2 == 1 {
                        return Err("codes of four bits in rows or groups of odd length".to_owned());
                    }
                    // Eight above the integer becomes two's complement: its highest bit is turned over.
                    let bytes = codes.iter().map(|pair| pair ^ 0x88).collect();
                    (Code::Int4, bytes, scales)
                }
                StoredValues::Fp8 { codes, scales } => {
                    if scales.group() < inputs {
                        return Err("FP8 with more than one scale to a row".to_owned());
                    }
                    (Code::Fp8, codes.clone(), scales)
                }
                StoredValues::Blocks { .. } => {
                    return Err(BLOCKS.to_owned());
                }
                StoredValues::F32(_) | StoredValues::Bf16(_) | StoredValues::F16(_) => {
                    if all.is_some() {
                        return Err(MIXED.to_owned());
                    }
                    continue;
                }
            };
            // One scale to a row whatever the width is written as.
            let group = scales.group().min(inputs.max(1));
            match &mut all {
                None if number == 0 => {
                    all = Some(Self {
                        code,
                        group,
                        bytes,
                        scales: scales.values().to_vec(),
                    });
                }
                Some(all) if all.code == code && all.group == group => {
                    all.bytes.extend(bytes);
                    all.scales.extend(scales.values());
                }
                _ => return Err(MIXED.to_owned()),
            }
        }
        Ok(all)
    }
}

/// Why blocks are refused.
pub(super) const BLOCKS: &str = "blocks of a GGUF file are for the CPU";

const MIXED: &str = "matrices that share their argument are stored in different ways";

/// The codes of matrices one below the other, on the device.
#[derive(Debug)]
pub struct Codes {
    code: Code,
    group: u32,
    codes: Memory,
    scales: Memory,
}

/// A product by codes: `y [rows, outputs] = x [rows, inputs] · wᵀ`.
#[derive(Clone, Copy, Debug)]
pub struct CodedProduct {
    /// Result.
    pub y: Address,
    /// Argument.
    pub x: Address,
    /// Rows of both.
    pub rows: u32,
    /// Width of the result.
    pub outputs: u32,
    /// Width of the argument.
    pub inputs: u32,
}

impl Codes {
    /// Copies codes to the device.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(device: &Arc<dyn Device>, host: &HostCodes) -> Result<Self, EngineError> {
        Ok(Self {
            code: host.code,
            group: super::model::small(host.group)?,
            codes: Memory::of(device, &host.bytes)?,
            scales: Memory::of(device, &host.scales)?,
        })
    }

    /// Bytes of codes and scales.
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.scales.bytes()
    }

    /// Queues a product.
    ///
    /// # Safety
    /// `x` and `y` are of the product's shape, as long as it is queued, and the codes are of `outputs` and
    /// `inputs`.
    ///
    /// # Errors
    /// When the device fails.
    pub unsafe fn multiply(
        &self,
        kernels: &dyn Kernels,
        product: &CodedProduct,
    ) -> Result<(), DeviceError> {
        let CodedProduct {
            y,
            x,
            rows,
            outputs,
            inputs,
        } = *product;
        let (w, scales, group) = (self.codes.address(), self.scales.address(), self.group);
        let stream = Stream::Compute;
        // SAFETY: by the caller's promise, for all three.
        unsafe {
            match self.code {
                Code::Int8 => kernels.launch(
                    stream,
                    &GemmInt8 {
                        y,
                        x,
                        w,
                        scales,
                        group,
                        rows,
                        outputs,
                        inputs,
                    },
                ),
                Code::Int4 => kernels.launch(
                    stream,
                    &GemmInt4 {
                        y,
                        x,
                        w,
                        scales,
                        group,
                        rows,
                        outputs,
                        inputs,
                    },
                ),
                Code::Fp8 => kernels.launch(
                    stream,
                    &GemmFp8 {
                        y,
                        x,
                        w,
                        scales,
                        rows,
                        outputs,
                        inputs,
                    },
                ),
            }
        }
    }

    /// The values of `outputs` rows from row `first` on, read back beside the steps.
    ///
    /// # Errors
    /// When there are fewer, or the device fails.
    pub fn rows(
        &self,
        first: usize,
        outputs: usize,
        inputs: usize,
    ) -> Result<Vec<f32>, DeviceError> {
        let row = self.code.bytes(inputs);
        let group = self.group as usize;
        let per_row = inputs.div_ceil(group.max(1));
        let mut bytes = vec![0u8; outputs * row];
        self.codes.read(Stream::Copy, first * row, &mut bytes)?;
        let mut scales = vec![0.0f32; outputs * per_row];
        let start = first * per_row * size_of::<f32>();
        self.scales.read(Stream::Copy, start, &mut scales)?;
        let scales = StoredMatrix::scales(group, scales);
        let values = match self.code {
            Code::Int8 => StoredValues::Int8 {
                codes: bytes.into_iter().map(|b| i8::from_ne_bytes([b])).collect(),
                scales,
            },
            Code::Int4 => StoredValues::Int4 {
                codes: bytes.into_iter().map(|pair| pair ^ 0x88).collect(),
                scales,
            },
            Code::Fp8 => StoredValues::Fp8 {
                codes: bytes,
                scales,
            },
        };
        StoredMatrix::new(outputs, inputs, values)
            .map(|matrix| matrix.to_f32())
            .map_err(|error| DeviceError::Refused {
                what: "reading weights back",
                reason: error.to_string(),
            })
    }
}
