//! Checkpoints in safetensors: one file, or shards and their index; plain, or packed by
//! compressed-tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::Dtype;
use serde_json::Value;

use super::{map, named};
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::folder;
use crate::quantisation::{Grouping, Packing, Quantisation};
use crate::stored::{StoredMatrix, StoredValues};
use crate::tensors;
use crate::weights;

pub(super) const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";
const MAX_INDEX_BYTES: u64 = 64 << 20;
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Room for the header and for buffers that are ignored, beyond the weights themselves; bytes.
const HEADER_ALLOWANCE: u64 = 16 << 20;

/// The files of a checkpoint, mapped.
#[derive(Debug)]
pub(super) struct Files {
    maps: Vec<Mmap>,
    places: BTreeMap<String, Place>,
    shapes: BTreeMap<String, Vec<usize>>,
    quantisation: Option<Quantisation>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Place {
    file: usize,
    dtype: Dtype,
    bytes: Range<usize>,
}

/// What a tensor may be.
struct Expected {
    shapes: Vec<Vec<usize>>,
    dtypes: &'static [Dtype],
}

const FLOATS: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::BF16];

impl Files {
    /// Whether the folder holds a checkpoint in safetensors.
    pub fn in_folder(dir: &Path) -> bool {
        folder::holds(dir, SINGLE) || folder::holds(dir, INDEX)
    }

    pub fn open(dir: &Path, config: &ModelConfig) -> Result<Self> {
        let limit = config
            .parameters()
            .saturating_mul(4)
            .saturating_add(HEADER_ALLOWANCE);
        let shards = if folder::holds(dir, SINGLE) {
            vec![(SINGLE.to_string(), None)]
        } else if folder::holds(dir, INDEX) {
            shards(dir)?
                .into_iter()
                .map(|(file, names)| (file, Some(names)))
                .collect()
        } else {
            return Err(ModelError::Io {
                path: dir.join(SINGLE),
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        let mut files = Self {
            maps: Vec::new(),
            places: BTreeMap::new(),
            shapes: weights::shapes(config),
            quantisation: quantisation(dir)?,
        };
        let mut expected = files.expected()?;
        for (number, (file, listed)) in shards.into_iter().enumerate() {
            let bytes = map(dir, &file, limit)?;
            let parsed = tensors::parse(&bytes, &file)?;
            if let Some(listed) = listed {
                let present: BTreeSet<String> = parsed
                    .names()
                    .into_iter()
                    .map(ToString::to_string)
                    .collect();
                if let Some(name) = listed.symmetric_difference(&present).next() {
                    return Err(ModelError::invalid(
                        INDEX,
                        format!("{file} and the index disagree about tensor {name}"),
                    ));
                }
            }
            let mut views: Vec<_> = parsed.iter().collect();
            views.sort_by_key(|(name, _)| *name);
            for (name, view) in views {
                if weights::ignorable(name, config) {
                    continue;
                }
                let Some(expected) = expected.remove(name) else {
                    return Err(ModelError::UnexpectedTensor { name: name.into() });
                };
                expected.check(name, view.shape(), view.dtype())?;
                let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
                let place = Place {
                    file: number,
                    dtype: view.dtype(),
                    bytes: start..start + view.data().len(),
                };
                files.places.insert(name.to_string(), place);
            }
            files.maps.push(bytes);
        }
        match expected.into_keys().next() {
            Some(name) => Err(ModelError::MissingTensor { name }),
            None => Ok(files),
        }
    }

    pub fn is_quantised(&self) -> bool {
        self.quantisation.is_some()
    }

    /// How the matrix of this name is stored, if as codes.
    fn quantised(&self, name: &str) -> Option<&Quantisation> {
        let module = name.strip_suffix(".weight")?;
        let linear = module.ends_with("_proj") || module == "lm_head";
        self.quantisation
            .as_ref()
            .filter(|quantisation| linear && quantisation.covers(module))
    }

    /// Every tensor that the files should have.
    fn expected(&self) -> Result<BTreeMap<String, Expected>> {
        let mut expected = BTreeMap::new();
        for (name, shape) in &self.shapes {
            let mut add = |name: String, shapes: Vec<Vec<usize>>, dtypes: &'static [Dtype]| {
                expected.insert(name, Expected { shapes, dtypes });
            };
            let (Some(quantisation), [outputs, inputs]) = (self.quantised(name), shape.as_slice())
            else {
                add(name.clone(), vec![shape.clone()], FLOATS);
                continue;
            };
            let (outputs, inputs) = (*outputs, *inputs);
            match quantisation.packing {
                Packing::Int8 => add(name.clone(), vec![shape.clone()], &[Dtype::I8]),
                Packing::Fp8 => add(name.clone(), vec![shape.clone()], &[Dtype::F8_E4M3]),
                Packing::PackedInt8 | Packing::PackedInt4 => {
                    let words = inputs.div_ceil(per_word(quantisation.packing));
                    add(
                        format!("{name}_packed"),
                        vec![vec![outputs, words]],
                        &[Dtype::I32],
                    );
                    add(
                        format!("{name}_shape"),
                        vec![vec![2]],
                        &[Dtype::I64, Dtype::I32],
                    );
                }
            }
            let scales = match quantisation.grouping {
                Grouping::Tensor => vec![vec![1], vec![]],
                Grouping::Channel => vec![vec![outputs, 1], vec![outputs]],
                Grouping::Group(size) if inputs.is_multiple_of(size) => {
                    vec![vec![outputs, inputs / size]]
                }
                Grouping::Group(size) => {
                    return Err(ModelError::invalid(
                        CONFIG,
                        format!("group_size {size} does not divide the {inputs} inputs of {name}"),
                    ))
                }
            };
            add(format!("{name}_scale"), scales, FLOATS);
        }
        Ok(expected)
    }

    fn place(&self, name: &str) -> Result<(Dtype, &[u8])> {
        let found = self.places.get(name).and_then(|place| {
            let bytes = self.maps.get(place.file)?.get(place.bytes.clone())?;
            Some((place.dtype, bytes))
        });
        found.ok_or_else(|| ModelError::MissingTensor { name: name.into() })
    }

    fn shape(&self, name: &str) -> Result<&[usize]> {
        let shape = self.shapes.get(name);
        shape
            .map(Vec::as_slice)
            .ok_or_else(|| ModelError::MissingTensor { name: name.into() })
    }

    pub fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let (dtype, bytes) = self.place(name)?;
        tensors::floats(name, dtype, bytes)
    }

    pub fn matrix(&self, name: &str) -> Result<StoredMatrix> {
        let (outputs, inputs) = match self.shape(name)? {
            [outputs, inputs] => (*outputs, *inputs),
            _ => return Err(ModelError::MissingTensor { name: name.into() }),
        };
        let values = match self.quantised(name) {
            None => {
                let (dtype, bytes) = self.place(name)?;
                match dtype {
                    Dtype::BF16 => StoredValues::Bf16(halves(bytes).map(bf16::from_bits).collect()),
                    Dtype::F16 => StoredValues::F16(halves(bytes).map(f16::from_bits).collect()),
                    _ => StoredValues::F32(tensors::floats(name, dtype, bytes)?),
                }
            }
            Some(quantisation) => self.codes(name, outputs, inputs, quantisation)?,
        };
        named(name, StoredMatrix::new(outputs, inputs, values))
    }

    fn codes(
        &self,
        name: &str,
        outputs: usize,
        inputs: usize,
        quantisation: &Quantisation,
    ) -> Result<StoredValues> {
        let mut scales = self.vector(&format!("{name}_scale"))?;
        let group = match quantisation.grouping {
            Grouping::Tensor => {
                let scale = scales.first().copied().unwrap_or(1.0);
                scales = vec![scale; outputs];
                inputs
            }
            Grouping::Channel => inputs,
            Grouping::Group(size) => size,
        };
        let scales = StoredMatrix::scales(group, scales);
        Ok(match quantisation.packing {
            Packing::Int8 => StoredValues::Int8 {
                codes: self.place(name)?.1.iter().map(|code| *code as i8).collect(),
                scales,
            },
            Packing::Fp8 => StoredValues::Fp8 {
                codes: self.place(name)?.1.to_vec(),
                scales,
            },
            packing => {
                self.check_packed_shape(name, outputs, inputs)?;
                let (_, words) = self.place(&format!("{name}_packed"))?;
                let row = inputs.div_ceil(per_word(packing)) * 4;
                // Words are little-endian and filled from the low end, so their bytes hold the codes
                // in order; a row's last word may hold more than the row.
                let rows = words.chunks_exact(row.max(1));
                if packing == Packing::PackedInt4 {
                    let used = inputs.div_ceil(2);
                    StoredValues::Int4 {
                        codes: rows.flat_map(|row| &row[..used]).copied().collect(),
                        scales,
                    }
                } else {
                    StoredValues::Int8 {
                        codes: rows
                            .flat_map(|row| &row[..inputs])
                            // 128 above the integer.
                            .map(|code| (code ^ 0x80) as i8)
                            .collect(),
                        scales,
                    }
                }
            }
        })
    }

    /// Checks `weight_shape`, which says what the packed words hold.
    fn check_packed_shape(&self, name: &str, outputs: usize, inputs: usize) -> Result<()> {
        let full = format!("{name}_shape");
        let (_, bytes) = self.place(&full)?;
        let width = bytes.len() / 2;
        let found: Vec<usize> = bytes
            .chunks_exact(width.max(1))
            .map(|bytes| {
                let mut wide = [0; 8];
                wide[..width].copy_from_slice(bytes);
                usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX)
            })
            .collect();
        if found == [outputs, inputs] {
            return Ok(());
        }
        Err(ModelError::Shape {
            name: full,
            expected: vec![outputs, inputs],
            found,
        })
    }
}

impl Expected {
    fn check(&self, name: &str, shape: &[usize], dtype: Dtype) -> Result<()> {
        if !self.shapes.iter().any(|expected| expected == shape) {
            return Err(ModelError::Shape {
                name: name.into(),
                expected: self.shapes.first().cloned().unwrap_or_default(),
                found: shape.to_vec(),
            });
        }
        if !self.dtypes.contains(&dtype) {
            let names: Vec<String> = self.dtypes.iter().map(|d| format!("{d:?}")).collect();
            return Err(ModelError::DType {
                name: name.into(),
                dtype: format!("{dtype:?}"),
                expected: names.join(", "),
            });
        }
        Ok(())
    }
}

/// Codes in one word of 32 bits.
fn per_word(packing: Packing) -> usize {
    if packing == Packing::PackedInt4 {
        8
    } else {
        4
    }
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes
        .chunks_exact(2)
        .map(|b| u16::from_le_bytes([b[0], b[1]]))
}

/// What `config.json` says of codes; none if there is no such file or field.
fn quantisation(dir: &Path) -> Result<Option<Quantisation>> {
    if !folder::holds(dir, CONFIG) {
        return Ok(None);
    }
    let bytes = folder::read(dir, CONFIG, MAX_CONFIG_BYTES)?;
    let config: Value = serde_json::from_slice(&bytes).map_err(|source| ModelError::Json {
        what: CONFIG.into(),
        source,
    })?;
    let field = config.get("quantization_config").filter(|v| !v.is_null());
    field.map(Quantisation::from_json).transpose()
}

/// The shards that the index lists, each with the names that it says are in it.
fn shards(dir: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = folder::read(dir, INDEX, MAX_INDEX_BYTES)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|source| ModelError::Json {
        what: INDEX.into(),
        source,
    })?;
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, file) in index.weight_map {
        if !file.ends_with(".safetensors") {
            return Err(ModelError::unsupported(INDEX, format!("shard \"{file}\"")));
        }
        shards.entry(file).or_default().insert(name);
    }
    Ok(shards)
}
