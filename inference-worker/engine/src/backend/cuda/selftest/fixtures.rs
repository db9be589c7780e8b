//! Tiny models with adapters and the logits that transformers and PEFT computed of them, inside the
//! program: those of `inference-worker/model/goldens`.

/// A PEFT adapter: name, `adapter_config.json`, `adapter_model.safetensors`.
pub type AdapterFile = (&'static str, &'static [u8], &'static [u8]);

/// A model and what is expected of it.
pub struct Fixture {
    /// Its name.
    pub model: &'static str,
    /// `config.json`.
    pub config: &'static str,
    /// `model.safetensors`.
    pub weights: &'static [u8],
    /// Its adapters.
    pub adapters: &'static [AdapterFile],
    /// The logits of the base, then of each adapter: tensors `logits.0`, `logits.1`, … of the first
    /// prompts.
    pub expected: &'static [&'static [u8]],
}

macro_rules! golden {
    ($path:literal) => {
        include_bytes!(concat!("../../../../../model/goldens/", $path))
    };
}

macro_rules! fixture {
    ($model:literal: $($adapter:literal),+) => {
        Fixture {
            model: $model,
            config: include_str!(concat!("../../../../../model/goldens/", $model, "/config.json")),
            weights: include_bytes!(
                concat!("../../../../../model/goldens/", $model, "/model.safetensors")
            ),
            adapters: &[$((
                $adapter,
                include_bytes!(concat!(
                    "../../../../../model/goldens/", $model, "/adapters/", $adapter,
                    "/adapter_config.json"
                )),
                include_bytes!(concat!(
                    "../../../../../model/goldens/", $model, "/adapters/", $adapter,
                    "/adapter_model.safetensors"
                )),
            )),+],
            expected: &[
                include_bytes!(concat!(
                    "../../../../../model/goldens/", $model, "/expected/base.safetensors"
                )),
                $(include_bytes!(concat!(
                    "../../../../../model/goldens/", $model, "/expected/", $adapter, ".safetensors"
                ))),+
            ],
        }
    };
}

/// The prompts, lists of tokens in JSON.
pub const PROMPTS: &[u8] = golden!("prompts.json");

/// One model of each family, with LoRA, rsLoRA, DoRA, patterns and ragged ranks.
pub const FIXTURES: &[Fixture] = &[
    fixture!("llama3": "r4", "r8-rslora", "r16-patterns", "r64-regex", "r8-dora", "ragged-dora"),
    fixture!("mistral": "r4", "ragged", "r8-dora", "ragged-dora"),
    fixture!("qwen2": "r4", "ragged", "r8-dora", "ragged-dora"),
    fixture!("qwen3": "r4", "ragged", "r8-dora", "ragged-dora"),
];
