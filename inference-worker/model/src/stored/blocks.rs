//! Blocks of GGUF files. Their values are computed by candle, which follows llama.cpp.

use candle_core::quantized::{k_quants, GgmlDType, GgmlType};

/// Type of the blocks in which GGUF files store matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// 32 values of four bits and a scale.
    Q4_0,
    /// 32 values of four bits, a scale and a least value.
    Q4_1,
    /// 32 values of five bits and a scale.
    Q5_0,
    /// 32 values of five bits, a scale and a least value.
    Q5_1,
    /// 32 values of eight bits and a scale.
    Q8_0,
    /// 256 values of two bits with scales of their own for each 16.
    Q2K,
    /// 256 values of three bits with scales of their own for each 16.
    Q3K,
    /// 256 values of four bits with scales of their own for each 32.
    Q4K,
    /// 256 values of five bits with scales of their own for each 32.
    Q5K,
    /// 256 values of six bits with scales of their own for each 16.
    Q6K,
}

/// The most values of one block.
const MOST: usize = 256;

impl BlockKind {
    /// Every type.
    pub const ALL: [BlockKind; 10] = [
        BlockKind::Q4_0,
        BlockKind::Q4_1,
        BlockKind::Q5_0,
        BlockKind::Q5_1,
        BlockKind::Q8_0,
        BlockKind::Q2K,
        BlockKind::Q3K,
        BlockKind::Q4K,
        BlockKind::Q5K,
        BlockKind::Q6K,
    ];

    /// Name of the type as llama.cpp writes it, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            BlockKind::Q4_0 => "q4_0",
            BlockKind::Q4_1 => "q4_1",
            BlockKind::Q5_0 => "q5_0",
            BlockKind::Q5_1 => "q5_1",
            BlockKind::Q8_0 => "q8_0",
            BlockKind::Q2K => "q2_k",
            BlockKind::Q3K => "q3_k",
            BlockKind::Q4K => "q4_k",
            BlockKind::Q5K => "q5_k",
            BlockKind::Q6K => "q6_k",
        }
    }

    /// Values of one block.
    pub fn values(self) -> usize {
        self.ggml().block_size()
    }

    /// Bytes of one block.
    pub fn bytes(self) -> usize {
        self.ggml().type_size()
    }

    /// Bytes of a row of `inputs` values; none if they do not fill whole blocks.
    pub fn row_bytes(self, inputs: usize) -> Option<usize> {
        let whole = inputs.is_multiple_of(self.values());
        whole.then(|| inputs / self.values() * self.bytes())
    }

    /// The values from number `from` on of a row of blocks, as f32.
    ///
    /// # Panics
    /// When the row has no such values.
    pub fn decode(self, row: &[u8], from: usize, into: &mut [f32]) {
        let (values, bytes) = (self.values(), self.bytes());
        let mut buffer = [0f32; MOST];
        let block = &mut buffer[..values];
        let mut done = 0;
        while done < into.len() {
            let at = from + done;
            let first = at / values * bytes;
            let run = (values - at % values).min(into.len() - done);
            let to = &mut into[done..done + run];
            if run == values {
                self.decode_block(&row[first..first + bytes], to);
            } else {
                self.decode_block(&row[first..first + bytes], block);
                to.copy_from_slice(&block[at % values..][..run]);
            }
            done += run;
        }
    }

    fn decode_block(self, block: &[u8], into: &mut [f32]) {
        match self {
            BlockKind::Q4_0 => decode_as::<k_quants::BlockQ4_0>(block, into),
            BlockKind::Q4_1 => decode_as::<k_quants::BlockQ4_1>(block, into),
            BlockKind::Q5_0 => decode_as::<k_quants::BlockQ5_0>(block, into),
            BlockKind::Q5_1 => decode_as::<k_quants::BlockQ5_1>(block, into),
            BlockKind::Q8_0 => decode_as::<k_quants::BlockQ8_0>(block, into),
            BlockKind::Q2K => decode_as::<k_quants::BlockQ2K>(block, into),
            BlockKind::Q3K => decode_as::<k_quants::BlockQ3K>(block, into),
            BlockKind::Q4K => decode_as::<k_quants::BlockQ4K>(block, into),
            BlockKind::Q5K => decode_as::<k_quants::BlockQ5K>(block, into),
            BlockKind::Q6K => decode_as::<k_quants::BlockQ6K>(block, into),
        }
    }

    /// candle's name of the type.
    fn ggml(self) -> GgmlDType {
        match self {
            BlockKind::Q4_0 => GgmlDType::Q4_0,
            BlockKind::Q4_1 => GgmlDType::Q4_1,
            BlockKind::Q5_0 => GgmlDType::Q5_0,
            BlockKind::Q5_1 => GgmlDType::Q5_1,
            BlockKind::Q8_0 => GgmlDType::Q8_0,
            BlockKind::Q2K => GgmlDType::Q2K,
            BlockKind::Q3K => GgmlDType::Q3K,
            BlockKind::Q4K => GgmlDType::Q4K,
            BlockKind::Q5K => GgmlDType::Q5K,
            BlockKind::Q6K => GgmlDType::Q6K,
        }
    }

    /// The type of that name of candle's, if it is one in which matrices are stored.
    pub(crate) fn from_ggml(kind: GgmlDType) -> Option<Self> {
        Self::ALL.into_iter().find(|ours| ours.ggml() == kind)
    }
}

fn decode_as<B: GgmlType>(block: &[u8], into: &mut [f32]) {
    assert_eq!((block.len(), into.len()), (size_of::<B>(), B::BLCK_SIZE));
    // SAFETY: candle's blocks are plain numbers in C layout, of the asserted size, and any bits are
    // numbers; the read asks for no alignment.
    let block: B = unsafe { block.as_ptr().cast::<B>().read_unaligned() };
    B::to_float(std::slice::from_ref(&block), into);
}
