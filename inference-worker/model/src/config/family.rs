//! The families of models, and what each adds to Llama's decoder layer.

/// A family of causal language models whose decoder layer is Llama's, but for the additions that
/// the methods name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Llama 1 to 3: the plain layer.
    Llama,
    /// Mistral: Llama's layer; its sliding window is refused where it would hide anything.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on the query, key and value projections.
    Qwen2,
    /// Qwen3 (dense): queries and keys normalised head by head.
    Qwen3,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 4] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3];

    /// `model_type` of its configurations.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    /// The one entry of `architectures` in its configurations.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// Whether the query, key and value projections have a bias. No family's other layers have one.
    pub fn qkv_bias(self) -> bool {
        self == Family::Qwen2
    }

    /// Whether each head of the queries and keys goes through a root-mean-square norm, of one scale
    /// for all heads, before it is rotated.
    pub fn qk_norm(self) -> bool {
        self == Family::Qwen3
    }

    /// The family of a `model_type`.
    pub(super) fn from_model_type(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|family| family.model_type() == name)
    }
}
