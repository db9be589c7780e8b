//! The seven linear layers of a decoder layer, which an adapter may change.

use crate::config::{Family, ModelConfig};

/// One linear layer of a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Output projection of the attention.
    O,
    /// Gate of the feed-forward layer.
    Gate,
    /// Up projection of the feed-forward layer.
    Up,
    /// Down projection of the feed-forward layer.
    Down,
}

impl Site {
    /// Every site, in the order in which a layer computes them.
    pub const ALL: [Site; 7] = [
        Site::Q,
        Site::K,
        Site::V,
        Site::O,
        Site::Gate,
        Site::Up,
        Site::Down,
    ];

    /// Something of each site, in the order of [`Self::ALL`]; the first error where there is one.
    pub(crate) fn each<T, E>(of: impl Fn(Site) -> Result<T, E>) -> Result<[T; 7], E> {
        let [q, k, v, o, gate, up, down] = Self::ALL;
        Ok([
            of(q)?,
            of(k)?,
            of(v)?,
            of(o)?,
            of(gate)?,
            of(up)?,
            of(down)?,
        ])
    }

    /// Position in [`Self::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name of the module within its decoder layer, such as `self_attn.q_proj`.
    pub fn module(self) -> &'static str {
        match self {
            Site::Q => "self_attn.q_proj",
            Site::K => "self_attn.k_proj",
            Site::V => "self_attn.v_proj",
            Site::O => "self_attn.o_proj",
            Site::Gate => "mlp.gate_proj",
            Site::Up => "mlp.up_proj",
            Site::Down => "mlp.down_proj",
        }
    }

    /// Last part of the module's name, such as `q_proj`: how adapters name their targets.
    pub fn name(self) -> &'static str {
        let module = self.module();
        module.rsplit_once('.').map_or(module, |(_, name)| name)
    }

    /// Full name of the module in layer `layer`, such as `model.layers.0.self_attn.q_proj`.
    pub fn path(self, layer: usize) -> String {
        format!("model.layers.{layer}.{}", self.module())
    }

    /// Whether the layer has a bias, `[out]`, in models of this family.
    pub fn has_bias(self, family: Family) -> bool {
        family.qkv_bias() && matches!(self, Site::Q | Site::K | Site::V)
    }

    /// Shape of the weight: `(out, in)`.
    pub fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let hidden = config.hidden_size;
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        match self {
            Site::Q => (queries, hidden),
            Site::K | Site::V => (keys, hidden),
            Site::O => (hidden, queries),
            Site::Gate | Site::Up => (config.intermediate_size, hidden),
            Site::Down => (hidden, config.intermediate_size),
        }
    }
}
