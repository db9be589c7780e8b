//! The launches of a step, in order.

use super::arena::Arena;
use super::calls::{
    AddRmsNorm, DecodeAttention, DecodeCombine, GatherRows, Gemm, GemmLogits, GemmTensor,
    GemmTensorLogits, GemmTensorLogitsNarrow, GemmTensorNarrow, LoraExpand, LoraExpandTensor,
    LoraShrink, LoraShrinkTensor, LoraShrinkTiles, PrefillAttention, PrefillAttentionTensor,
    RmsNorm, RmsNormF32, RopeKv, SiluMul, Spans, NARROW_ROWS,
};
use super::codes::CodedProduct;
use super::device::{
    Blas, DeviceError, DeviceRank, DeviceValues, Kernels, Product, ProductShape, Stream,
};
use super::inputs::{InputPlaces, StepShape};
use super::launch::{Address, Call};
use super::model::{LayerMemory, Linear, ModelMemory, Weights};
use super::selftest::TensorKernels;
use super::sources::Storage;
use super::workspace::Workspace;
use openledger_model::{ModelConfig, Site};

/// Sizes of a rank's part of a model, as the kernels take them. Hidden width and vocabulary are whole.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    layers: u32,
    hidden: u32,
    intermediate: u32,
    vocabulary: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    epsilon: f32,
    /// Factor of the scores of attention.
    scale: f32,
}

impl Sizes {
    /// Of a model whose sizes all fit into 32 bits, as loading it has shown.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            layers: config.num_hidden_layers as u32,
            hidden: config.hidden_size as u32,
            intermediate: config.intermediate_size as u32,
            vocabulary: config.vocab_size as u32,
            heads: config.num_attention_heads as u32,
            kv_heads: config.num_key_value_heads as u32,
            head_dim: config.head_dim as u32,
            epsilon: config.rms_norm_eps as f32,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
        }
    }

    /// Query heads of each head of keys.
    pub fn group(&self) -> u32 {
        self.heads / self.kv_heads.max(1)
    }
}

/// All that the launches of a step read and write.
///
/// Its addresses are of memory that lives as long as what this borrows, and that has room for steps of
/// any shape that [`super::inputs::Inputs::upload`] and [`Workspace::has_room`] accepted.
pub struct Forward<'a> {
    /// The kernels.
    pub kernels: &'a dyn Kernels,
    /// Matrix products by a library; none for the kernels' own.
    pub blas: Option<&'a dyn Blas>,
    /// Kernels on tensor cores that may be used.
    pub tensor: TensorKernels,
    /// The model's sizes.
    pub sizes: Sizes,
    /// What adds up the parts of several ranks.
    pub ranks: Option<&'a dyn DeviceRank>,
    /// The model's weights.
    pub model: &'a ModelMemory,
    /// Keys, values and adapters.
    pub arena: &'a Arena,
    /// Activations.
    pub work: &'a Workspace,
    /// The inputs.
    pub inputs: InputPlaces,
    /// The adapters' table.
    pub adapters: Address,
}

impl Forward<'_> {
    fn launch(&self, call: &dyn Call) -> Result<(), DeviceError> {
        // SAFETY: the addresses are those of this struct's parts, which were made for the model's sizes
        // and for the shape of the step.
        unsafe { self.kernels.launch(Stream::Compute, call) }
    }

    /// `y = x · wᵀ` for weights that are stored as the activations are.
    fn plain_product(
        &self,
        rows: u32,
        x: Address,
        w: Address,
        (outputs, inputs): (u32, u32),
        (y, result): (Address, Storage),
    ) -> Result<(), DeviceError> {
        if let Some(blas) = self.blas {
            let product = Product {
                y,
                x,
                w,
                shape: ProductShape {
                    rows,
                    outputs,
                    inputs,
                    storage: self.model.storage(),
                    result,
                },
            };
            // SAFETY: as in `launch`.
            return unsafe { blas.multiply(&product) };
        }
        let rounded = result == self.model.storage();
        let tensor = self.tensor.gemm && inputs.is_multiple_of(8);
        macro_rules! launch {
            ($call:ident) => {
                self.launch(&$call {
                    y,
                    x,
                    w,
                    rows,
                    outputs,
                    inputs,
                })
            };
        }
        match (tensor, rounded, rows <= NARROW_ROWS) {
            (false, true, _) => launch!(Gemm),
            (false, false, _) => launch!(GemmLogits),
            (true, true, true) => launch!(GemmTensorNarrow),
            (true, true, false) => launch!(GemmTensor),
            (true, false, true) => launch!(GemmTensorLogitsNarrow),
            (true, false, false) => launch!(GemmTensorLogits),
        }
    }

    fn multiply(
        &self,
        rows: u32,
        x: Address,
        linear: &Linear,
        y: Address,
    ) -> Result<(), DeviceError> {
        let (outputs, inputs) = (linear.outputs, linear.inputs);
        match &linear.weights {
            Weights::Plain(memory) => {
                let result = (y, self.model.storage());
                self.plain_product(rows, x, memory.address(), (outputs, inputs), result)
            }
            Weights::Coded(codes) => {
                let product = CodedProduct {
                    y,
                    x,
                    rows,
                    outputs,
                    inputs,
                };
                // SAFETY: as in `launch`.
                unsafe { codes.multiply(self.kernels, &product) }
            }
        }
    }

    /// A product and the adapters' deltas: `sites` of the layer share `x` and are side by side in `y`.
    fn linear(
        &self,
        shape: &StepShape,
        layer: usize,
        sites: &[(Site, u32)],
        x: Address,
        weights: &Linear,
        y: Address,
    ) -> Result<(), DeviceError> {
        self.multiply(shape.rows, x, weights, y)?;
        if shape.lora_tiles == 0 || shape.rank == 0 {
            return Ok(());
        }
        let Some((first, _)) = sites.first() else {
            return Ok(());
        };
        let all = Site::ALL.len() as u32;
        let (slot_stride, first_entry) = (
            self.sizes.layers * all,
            layer as u32 * all + first.index() as u32,
        );
        let (h, table) = (self.work.low_rank.address(), self.adapters);
        let (inputs, rank_stride) = (weights.inputs, shape.rank);
        // Single rows are bound by the bytes that they read, and the plain kernels read them once.
        let tensor = self.tensor.lora && shape.row_tiles > 0;
        if tensor && inputs.is_multiple_of(8) {
            self.launch(&LoraShrinkTensor {
                h,
                x,
                table,
                tiles: self.inputs.lora_tiles,
                order: self.work.order.address(),
                inputs,
                rank_stride,
                slot_stride,
                first_entry,
                tile_count: shape.lora_tiles,
                sites: sites.len() as u32,
            })?;
        } else if shape.row_tiles == 0 {
            self.launch(&LoraShrink {
                h,
                x,
                table,
                slots: self.inputs.slots,
                inputs,
                rank_stride,
                slot_stride,
                first_entry,
                rows: shape.rows,
                sites: sites.len() as u32,
            })?;
        } else {
            self.launch(&LoraShrinkTiles {
                h,
                x,
                table,
                tiles: self.inputs.lora_tiles,
                order: self.work.order.address(),
                inputs,
                rank_stride,
                slot_stride,
                first_entry,
                tile_count: shape.lora_tiles,
                sites: sites.len() as u32,
            })?;
        }
        let mut spans = Spans::default();
        let mut offset = 0;
        for (i, (_, width)) in sites.iter().enumerate() {
            spans.offset[i] = offset;
            spans.width[i] = *width;
            offset += width;
        }
        macro_rules! expand {
            ($call:ident) => {
                self.launch(&$call {
                    y,
                    h,
                    table,
                    tiles: self.inputs.lora_tiles,
                    order: self.work.order.address(),
                    spans,
                    y_stride: offset,
                    rank_stride,
                    slot_stride,
                    first_entry,
                    tile_count: shape.lora_tiles,
                    sites: sites.len() as u32,
                })
            };
        }
        if tensor {
            expand!(LoraExpandTensor)
        } else {
            expand!(LoraExpand)
        }
    }

    /// Queues everything up to the rows that are wanted, normed, and the hidden states. `ready` is called
    /// before what reads a layer's adapters is queued.
    ///
    /// # Errors
    /// When the device fails.
    pub fn layers(
        &self,
        shape: &StepShape,
        mut ready: impl FnMut(usize),
    ) -> Result<(), DeviceError> {
        let (work, sizes) = (self.work, &self.sizes);
        let (hidden, epsilon) = (sizes.hidden, sizes.epsilon);
        self.launch(&GatherRows {
            out: work.residual.address(),
            table: self.model.embed.address(),
            rows: self.inputs.tokens,
            width: hidden,
            limit: sizes.vocabulary,
            count: shape.rows,
        })?;
        let add_norm = |weight: Address| {
            self.launch(&AddRmsNorm {
                out: work.normed.address(),
                residual: work.residual.address(),
                x: work.delta.address(),
                weight,
                width: hidden,
                epsilon,
                rows: shape.rows,
            })
        };
        for (index, layer) in self.model.layers.iter().enumerate() {
            if index == 0 {
                self.launch(&RmsNorm {
                    out: work.normed.address(),
                    x: work.residual.address(),
                    weight: layer.input_norm.address(),
                    width: hidden,
                    epsilon,
                    rows: shape.rows,
                })?;
            } else {
                add_norm(layer.input_norm.address())?;
            }
            ready(index);
            self.attention(shape, index, layer)?;
            add_norm(layer.post_attention_norm.address())?;
            self.feed_forward(shape, index, layer)?;
        }
        add_norm(self.model.norm.address())?;
        self.pick(
            work.normed.address(),
            self.inputs.wanted,
            shape.wanted,
            work.picked.address(),
            shape.rows,
        )?;
        // The block's own results are not needed any more.
        self.pick(
            work.residual.address(),
            self.inputs.embedded,
            shape.embedded,
            work.delta.address(),
            shape.rows,
        )?;
        self.launch(&RmsNormF32 {
            out: work.hidden.address(),
            x: work.delta.address(),
            weight: self.model.norm.address(),
            width: hidden,
            epsilon,
            rows: shape.embedded,
        })
    }

    fn pick(
        &self,
        table: Address,
        rows: Address,
        count: u32,
        out: Address,
        limit: u32,
    ) -> Result<(), DeviceError> {
        self.launch(&GatherRows {
            out,
            table,
            rows,
            width: self.sizes.hidden,
            limit,
            count,
        })
    }

    fn attention(
        &self,
        shape: &StepShape,
        index: usize,
        layer: &LayerMemory,
    ) -> Result<(), DeviceError> {
        let (work, sizes, inputs) = (self.work, &self.sizes, &self.inputs);
        let (heads, kv_heads) = (sizes.heads, sizes.kv_heads);
        let (queries, keys) = (heads * sizes.head_dim, kv_heads * sizes.head_dim);
        self.linear(
            shape,
            index,
            &[(Site::Q, queries), (Site::K, keys), (Site::V, keys)],
            work.normed.address(),
            &layer.qkv,
            work.qkv.address(),
        )?;
        let value = self.model.storage().bytes() as u64;
        let page_stride = self.arena.page_bytes() as u64 / value;
        let layer_bytes = page_stride / u64::from(sizes.layers) * value;
        let kv = Address(self.arena.address().0 + index as u64 * layer_bytes);
        let optional = |memory: Option<Address>| memory.unwrap_or(Address::NULL);
        let norms = layer.qk_norm.as_ref();
        let table_stride = shape.table_stride();
        let q = work.queries.address();
        self.launch(&RopeKv {
            q,
            kv,
            qkv: work.qkv.address(),
            bias: optional(layer.bias.as_ref().map(|bias| bias.address())),
            q_norm: optional(norms.map(|[q, _]| q.address())),
            k_norm: optional(norms.map(|[_, k]| k.address())),
            angles: self.model.angles.address(),
            positions: inputs.positions,
            sequences: inputs.sequences,
            tables: inputs.tables,
            page_stride,
            table_stride,
            heads,
            kv_heads,
            epsilon: sizes.epsilon,
            rows: shape.rows,
            head_dim: sizes.head_dim,
        })?;
        let out = work.attended.address();
        if shape.row_tiles == 0 {
            self.launch(&DecodeAttention {
                partial: work.partial.address(),
                q,
                kv,
                positions: inputs.positions,
                sequences: inputs.sequences,
                tables: inputs.tables,
                page_stride,
                table_stride,
                heads,
                kv_heads,
                scale: sizes.scale,
                rows: shape.rows,
                chunks: shape.chunks,
            })?;
            self.launch(&DecodeCombine {
                out,
                partial: work.partial.address(),
                positions: inputs.positions,
                heads,
                chunks: shape.chunks,
                rows: shape.rows,
            })?;
        } else {
            macro_rules! prefill {
                ($call:ident) => {
                    self.launch(&$call {
                        out,
                        q,
                        kv,
                        tiles: inputs.row_tiles,
                        positions: inputs.positions,
                        tables: inputs.tables,
                        page_stride,
                        table_stride,
                        heads,
                        kv_heads,
                        scale: sizes.scale,
                        tile_count: shape.row_tiles,
                    })
                };
            }
            if self.tensor.prefill {
                prefill!(PrefillAttentionTensor)?;
            } else {
                prefill!(PrefillAttention)?;
            }
        }
        self.linear(
            shape,
            index,
            &[(Site::O, sizes.hidden)],
            out,
            &layer.o,
            work.delta.address(),
        )?;
        self.add_up(shape)
    }

    /// Adds up what each rank's inputs contribute to a block's result, its adapters' deltas included.
    fn add_up(&self, shape: &StepShape) -> Result<(), DeviceError> {
        let Some(ranks) = self.ranks else {
            return Ok(());
        };
        let count = shape.rows as usize * self.sizes.hidden as usize;
        // SAFETY: as in `launch`.
        let mut values =
            unsafe { DeviceValues::new(self.work.delta.address(), count, self.model.storage()) };
        Ok(ranks.all_reduce(&mut values)?)
    }

    fn feed_forward(
        &self,
        shape: &StepShape,
        index: usize,
        layer: &LayerMemory,
    ) -> Result<(), DeviceError> {
        let (work, width) = (self.work, self.sizes.intermediate);
        self.linear(
            shape,
            index,
            &[(Site::Gate, width), (Site::Up, width)],
            work.normed.address(),
            &layer.gate_up,
            work.gate_up.address(),
        )?;
        self.launch(&SiluMul {
            out: work.activated.address(),
            gate_up: work.gate_up.address(),
            width,
            rows: shape.rows,
        })?;
        self.linear(
            shape,
            index,
            &[(Site::Down, self.sizes.hidden)],
            work.activated.address(),
            &layer.down,
            work.delta.address(),
        )?;
        self.add_up(shape)
    }

    /// Queues the logits of `count` wanted rows from number `first` on, those of the rank's tokens; there is
    /// room for as many rows as [`Workspace::logit_rows`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(&self, first: u32, count: u32) -> Result<(), DeviceError> {
        let row = u64::from(self.sizes.hidden) * self.model.storage().bytes() as u64;
        let x = Address(self.work.picked.address().0 + u64::from(first) * row);
        let (weights, tokens) = self.model.output_projection();
        if tokens == 0 {
            // The vocabulary has fewer panels than there are ranks.
            return Ok(());
        }
        let shape = (tokens as u32, self.sizes.hidden);
        let result = (self.work.logits.address(), Storage::F32);
        self.plain_product(count, x, weights, shape, result)
    }
}
