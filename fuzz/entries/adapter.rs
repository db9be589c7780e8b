//! An adapter's two files: the length of `adapter_config.json` as two bytes, it, then
//! `adapter_model.safetensors`.

use openledger_model::{Adapter, Family, ModelConfig, Site};

fn model() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 16,
        hidden_size: 4,
        intermediate_size: 6,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 2,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 16,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
    }
}

/// Whether the adapter was taken. What is taken is whole: of the model's shapes, finite, and the same
/// once written and read again; what is not has a reason that fits into a message.
pub fn check(data: &[u8]) -> bool {
    let Some((length, files)) = data.split_first_chunk::<2>() else {
        return false;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(files.len());
    let (config, weights) = files.split_at(length);
    let model = model();
    let adapter = match Adapter::from_bytes(config, weights, &model) {
        Ok(adapter) => adapter,
        Err(error) => {
            let reason = error.to_string();
            assert!(!reason.is_empty() && reason.len() < 100_000);
            return false;
        }
    };
    assert_eq!(adapter.layers.len(), model.num_hidden_layers);
    let mut pairs = 0;
    for layer in &adapter.layers {
        for site in Site::ALL {
            let Some(pair) = layer.get(site) else {
                continue;
            };
            let (out, inner) = site.shape(&model);
            let rank = pair.rank();
            assert!((1..=512).contains(&rank) && pair.scale.is_finite());
            assert_eq!(pair.a.dims(), [rank, inner]);
            assert_eq!(pair.b.dims(), [out, rank]);
            for tensor in [&pair.a, &pair.b] {
                let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
                assert!(values
                    .expect("a matrix of floats")
                    .iter()
                    .all(|v| v.is_finite()));
            }
            pairs += 1;
        }
    }
    assert!(pairs > 0);
    let (config, weights) = adapter.to_bytes().expect("what was read can be written");
    let again = Adapter::from_bytes(&config, &weights, &model).expect("and read again");
    // As text, in which a list of names is sorted.
    assert_eq!(again.config.to_json(), adapter.config.to_json());
    assert_eq!(again.parameters(), adapter.parameters());
    true
}
