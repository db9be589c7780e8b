//! What is refused, and that the refusal names it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use openledger_model::{
    peft, Adapter, Family, LoraConfig, ModelConfig, ModelError, RopeScaling, StoredType, Targets,
    Weights,
};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{json, Value};

fn goldens() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it")).join("goldens")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The golden configuration `model` with fields replaced; null removes one.
fn config_with(model: &str, changes: Value) -> Result<ModelConfig, ModelError> {
    let text = fs::read_to_string(goldens().join(model).join("config.json")).unwrap();
    let mut fields: Value = serde_json::from_str(&text).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            fields.as_object_mut().unwrap().remove(name);
        } else {
            fields[name] = value.clone();
        }
    }
    ModelConfig::from_json(&fields.to_string())
}

fn message<T>(result: Result<T, ModelError>) -> String {
    match result {
        Ok(_) => panic!("was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn configurations_that_change_the_arithmetic_are_refused_by_name() {
    let cases = [
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("hidden_act", json!("gelu")),
        ("quantization_config", json!({"bits": 4})),
        ("sliding_window", json!(128)),
        ("model_type", json!("gemma")),
        ("model_type", json!(["llama"])),
        ("architectures", json!(["Qwen2ForCausalLM"])),
        ("layer_types", json!(["full_attention"])),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
        ),
        ("layer_types", json!("full_attention")),
        ("use_sliding_window", json!(true)),
        ("use_mrope", json!(true)),
        ("use_qk_norm", json!(true)),
        ("sliding_window", json!("no")),
        ("architectures", json!(["LlamaForSequenceClassification"])),
        ("pretraining_tp", json!(2)),
        ("residual_multiplier", json!(0.5)),
        (
            "rope_parameters",
            json!({"rope_type": "yarn", "factor": 2.0}),
        ),
        (
            "rope_parameters",
            json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
        ),
        ("rope_parameters", json!({"factor": 2.0})),
        ("num_key_value_heads", json!(5)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1u64 << 40)),
        ("hidden_size", json!("48")),
        ("hidden_size", json!(-48)),
        ("rms_norm_eps", json!(0.0)),
        ("vocab_size", Value::Null),
        ("model_type", Value::Null),
        ("eos_token_id", json!([2, 160])),
        ("tie_word_embeddings", json!("yes")),
        ("head_dim", json!(7)),
    ];
    for (name, value) in cases {
        let error = message(config_with("llama2", json!({name: value.clone()})));
        assert!(
            error.contains(name) || error.contains("token id"),
            "{name} {value}: {error}"
        );
    }
    assert!(matches!(
        ModelConfig::from_json("{"),
        Err(ModelError::Json { .. })
    ));
    assert!(matches!(
        ModelConfig::from_json("[]"),
        Err(ModelError::Json { .. })
    ));
}

#[test]
fn configurations_of_each_family_are_refused_by_name() {
    let window = json!({"sliding_window": 128, "use_sliding_window": null});
    let layer_types = json!({"layer_types": ["full_attention", "sliding_attention"]});
    let cases = [
        ("mistral", json!({"sliding_window": 255}), "sliding_window"),
        (
            "mistral",
            json!({"sliding_window": null, "max_position_embeddings": 4097}),
            "sliding_window",
        ),
        ("mistral", json!({"rope_parameters": null}), "rope_theta"),
        (
            "mistral",
            json!({"num_key_value_heads": null}),
            "num_key_value_heads",
        ),
        ("mistral", json!({"attention_bias": true}), "attention_bias"),
        (
            "mistral",
            json!({"architectures": ["LlamaForCausalLM"]}),
            "architectures",
        ),
        (
            "mistral",
            json!({"layer_types": ["sliding_attention", "sliding_attention"]}),
            "layer_types",
        ),
        ("qwen2", window.clone(), "sliding_window"),
        (
            "qwen2",
            json!({"use_sliding_window": true}),
            "use_sliding_window",
        ),
        (
            "qwen2",
            json!({"use_sliding_window": "no"}),
            "use_sliding_window",
        ),
        ("qwen2", layer_types.clone(), "layer_types"),
        ("qwen2", json!({"attention_bias": false}), "attention_bias"),
        ("qwen2", json!({"use_mrope": true}), "use_mrope"),
        ("qwen2", json!({"mlp_bias": true}), "mlp_bias"),
        (
            "qwen2",
            json!({"dual_chunk_attention_config": {"chunk_size": 8}}),
            "dual_chunk",
        ),
        (
            "qwen2",
            json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}}),
            "yarn",
        ),
        ("qwen2", json!({"rope_parameters": null}), "rope_theta"),
        (
            "qwen2",
            json!({"num_key_value_heads": null}),
            "num_key_value_heads",
        ),
        ("qwen3", window, "sliding_window"),
        ("qwen3", layer_types, "layer_types"),
        ("qwen3", json!({"attention_bias": true}), "attention_bias"),
        ("qwen3", json!({"head_dim": null}), "head_dim"),
        ("qwen3", json!({"num_experts": 8}), "num_experts"),
        ("qwen3", json!({"model_type": "qwen3_moe"}), "model_type"),
        (
            "qwen3",
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}),
            "rope_parameters",
        ),
    ];
    for (model, changes, named) in cases {
        let error = message(config_with(model, changes.clone()));
        assert!(error.contains(named), "{model} {changes}: {error}");
    }
}

#[test]
fn windows_that_hide_nothing_are_accepted() {
    let accepted = [
        ("mistral", json!({"sliding_window": 256})),
        (
            "mistral",
            json!({"sliding_window": null, "max_position_embeddings": 4096}),
        ),
        (
            "qwen2",
            json!({"sliding_window": 128, "use_sliding_window": false, "max_window_layers": 1}),
        ),
        ("qwen2", json!({"attention_bias": true, "use_mrope": false})),
        (
            "qwen3",
            json!({"sliding_window": 256, "use_sliding_window": null, "layer_types": null}),
        ),
        (
            "qwen3",
            json!({"attention_bias": null, "max_window_layers": 0}),
        ),
    ];
    for (model, changes) in accepted {
        let plain = config_with(model, json!({})).unwrap();
        let mut config = config_with(model, changes.clone()).unwrap();
        config.max_position_embeddings = plain.max_position_embeddings;
        assert_eq!(config, plain, "{model} {changes}");
    }
}

#[test]
fn checkpoints_of_another_family_are_refused_by_tensor() {
    let dir = |model: &str| goldens().join(model);
    let config = |model: &str, family| ModelConfig {
        family,
        ..ModelConfig::from_dir(&dir(model)).unwrap()
    };
    let load = |model: &str, family| message(Weights::load(&dir(model), &config(model, family)));
    let without = load("qwen2", Family::Llama);
    assert!(without.contains("_proj.bias does not belong"), "{without}");
    let with = load("mistral", Family::Qwen2);
    assert!(with.contains("_proj.bias is missing"), "{with}");
    let without = load("qwen3", Family::Llama);
    assert!(
        without.contains("_norm.weight does not belong"),
        "{without}"
    );
    let with = load("mistral", Family::Qwen3);
    assert!(with.contains("k_norm.weight is missing"), "{with}");
}

#[test]
fn configurations_of_transformers_4_and_5_read_alike() {
    let five = config_with("llama3", json!({})).unwrap();
    let scaling = json!({
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 48
    });
    let four = config_with(
        "llama3",
        json!({"rope_parameters": null, "rope_theta": 50000.0, "rope_scaling": scaling}),
    )
    .unwrap();
    assert_eq!(five, four);
    assert_eq!(five.rope_theta, 50_000.0);
    assert!(matches!(
        five.rope_scaling,
        Some(RopeScaling::Llama3 {
            original_max_position_embeddings: 48,
            ..
        })
    ));
    // Llama 2's own files have neither field.
    let old = config_with("llama2", json!({"rope_parameters": null, "head_dim": null})).unwrap();
    assert_eq!(old, config_with("llama2", json!({})).unwrap());
    let contradiction = config_with("llama3", json!({"rope_theta": 10000.0}));
    assert!(message(contradiction).contains("rope_theta"));
}

#[test]
fn damaged_checkpoints_are_refused() {
    let dir = goldens().join("tied");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let good = fs::read(dir.join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let load = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        Weights::load(folder.path(), &config)
    };
    assert!(load(&good).is_ok());
    for length in [0, 7, 8, header / 2, header, good.len() / 2, good.len() - 1] {
        let result = load(&good[..length]);
        assert!(
            matches!(result, Err(ModelError::Safetensors { .. })),
            "{length} bytes"
        );
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(load(&longer), Err(ModelError::Safetensors { .. })));
    for lie in [u64::MAX, 1 << 40, good.len() as u64, 0] {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&lie.to_le_bytes());
        assert!(
            matches!(load(&bytes), Err(ModelError::Safetensors { .. })),
            "header of {lie}"
        );
    }
    // The last value becomes an F16 NaN, then an infinity.
    for value in [0x7e00u16, 0xfc00] {
        let mut bytes = good.clone();
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&value.to_le_bytes());
        assert!(matches!(load(&bytes), Err(ModelError::NonFinite { .. })));
    }
    let oversize = vec![0; (config.parameters() * 4) as usize + (17 << 20)];
    assert!(matches!(load(&oversize), Err(ModelError::TooLarge { .. })));
}

#[test]
fn checkpoints_of_another_shape_are_refused_by_tensor() {
    let dir = goldens().join("tied");
    let deeper = config_with("tied", json!({"num_hidden_layers": 3})).unwrap();
    assert!(message(Weights::load(&dir, &deeper)).contains("model.layers.2"));
    let shallower = config_with("tied", json!({"num_hidden_layers": 1})).unwrap();
    assert!(message(Weights::load(&dir, &shallower)).contains("model.layers.1"));
    let wider = config_with("tied", json!({"intermediate_size": 65})).unwrap();
    assert!(matches!(
        Weights::load(&dir, &wider),
        Err(ModelError::Shape { .. })
    ));
    let untied = config_with("tied", json!({"tie_word_embeddings": false})).unwrap();
    assert!(message(Weights::load(&dir, &untied)).contains("lm_head.weight"));
}

#[test]
fn shards_that_lie_are_refused() {
    let dir = goldens().join("sharded");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let index = fs::read_to_string(dir.join("model.safetensors.index.json")).unwrap();
    let shard = "model-00002-of-00004.safetensors";
    let load = |change: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        copy(&dir, folder.path());
        change(folder.path());
        Weights::load(folder.path(), &config)
    };
    let rewrite = |folder: &Path, text: String| {
        fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
    };
    assert!(load(&|_| ()).is_ok());
    assert!(message(load(&|f| fs::remove_file(f.join(shard)).unwrap())).contains(shard));
    for outside in [
        "../model.safetensors",
        "/etc/passwd.safetensors",
        "a/b.safetensors",
        "model.bin",
    ] {
        assert!(
            load(&|f| rewrite(f, index.replace(shard, outside))).is_err(),
            "{outside}"
        );
    }
    assert!(message(load(&|f| rewrite(
        f,
        index.replace("model.norm.weight", "model.norm.w")
    )))
    .contains("disagree"));
    assert!(matches!(
        load(&|f| rewrite(f, "{".into())),
        Err(ModelError::Json { .. })
    ));
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let dir = goldens().join("tied");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let outside = tempfile::tempdir().unwrap();
    copy(&dir, outside.path());
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("model.safetensors");
    std::os::unix::fs::symlink(outside.path().join("model.safetensors"), &link).unwrap();
    let error = Weights::load(folder.path(), &config).unwrap_err();
    assert!(matches!(error, ModelError::OutsideFolder { .. }));
    assert!(error.to_string().contains("--local-dir"), "{error}");
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    assert!(matches!(
        Weights::load(folder.path(), &config),
        Err(ModelError::Io { .. })
    ));
}

#[test]
fn pickled_weights_of_an_adapter_are_refused_by_name() {
    let dir = goldens().join("llama3");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let folder = tempfile::tempdir().unwrap();
    copy(&dir.join("adapters/r4"), folder.path());
    let weights = folder.path().join("adapter_model.safetensors");
    fs::rename(weights, folder.path().join("adapter_model.bin")).unwrap();
    let error = Adapter::load(folder.path(), &config)
        .unwrap_err()
        .to_string();
    assert!(error.contains("adapter_model.bin"), "{error}");
    assert!(error.contains("safe_serialization"), "{error}");
}

/// The golden adapter's configuration with fields replaced, and its weights.
fn adapter_with(changes: Value) -> Result<Adapter, ModelError> {
    let dir = goldens().join("llama3");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let dir = dir.join("adapters/r4");
    let mut fields: Value =
        serde_json::from_slice(&fs::read(dir.join("adapter_config.json")).unwrap()).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        fields[name] = value.clone();
    }
    let weights = fs::read(dir.join("adapter_model.safetensors")).unwrap();
    Adapter::from_bytes(fields.to_string().as_bytes(), &weights, &config)
}

#[test]
fn adapter_variants_are_refused_by_name() {
    assert!(adapter_with(json!({})).is_ok());
    assert!(adapter_with(json!({"a_field_of_the_future": null})).is_ok());
    let cases = [
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("use_dora", json!("yes")),
        ("use_qalora", json!(true)),
        ("lora_bias", json!(true)),
        ("layer_replication", json!([[0, 1]])),
        ("layers_to_transform", json!([0])),
        ("fan_in_fan_out", json!(true)),
        ("target_parameters", json!(["x"])),
        ("trainable_token_indices", json!([1])),
        ("alora_invocation_tokens", json!([1])),
        ("init_lora_weights", json!("pissa")),
        ("peft_type", json!("IA3")),
        ("task_type", json!("SEQ_CLS")),
        ("a_field_of_the_future", json!(1)),
        ("r", json!(0)),
        ("r", json!(513)),
        ("r", json!(4.5)),
        ("lora_alpha", json!(null)),
        ("lora_alpha", json!("16")),
        ("lora_dropout", json!(1.0)),
        ("rank_pattern", json!({"q_proj": 1000})),
        (
            "rank_pattern",
            json!({"q_proj": 4, "layers.0.self_attn.q_proj": 8}),
        ),
        ("alpha_pattern", json!([1])),
        ("target_modules", json!(null)),
        ("target_modules", json!([1])),
        ("target_modules", json!(["lm_head"])),
        ("target_modules", json!(["nothing"])),
        ("target_modules", json!(".*")),
        ("target_modules", json!("(?<=a)q_proj")),
        ("target_modules", json!("a)|(b")),
        ("target_modules", json!("(a{1000}){1000}")),
    ];
    for (name, value) in cases {
        let error = message(adapter_with(json!({name: value.clone()})));
        let named = name == "target_modules" && error.contains("target module");
        assert!(error.contains(name) || named, "{name} {value}: {error}");
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_tensor() {
    let fewer = message(adapter_with(json!({"target_modules": ["q_proj"]})));
    assert!(fewer.contains("does not belong"), "{fewer}");
    let dir = goldens().join("llama3");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let more = fs::read_to_string(dir.join("adapters/r64-regex/adapter_config.json"))
        .unwrap()
        .replace("(q|o)_proj", "(q|o|v)_proj");
    let weights = fs::read(dir.join("adapters/r64-regex/adapter_model.safetensors")).unwrap();
    let error = message(Adapter::from_bytes(more.as_bytes(), &weights, &config));
    assert!(error.contains("v_proj.lora_A.weight is missing"), "{error}");
    assert!(matches!(
        adapter_with(json!({"r": 8})),
        Err(ModelError::Shape { .. })
    ));
    let other = ModelConfig::from_dir(&goldens().join("llama2")).unwrap();
    assert!(matches!(
        Adapter::load(&dir.join("adapters/r4"), &other),
        Err(ModelError::Shape { .. })
    ));
}

/// The golden DoRA with fields of its configuration replaced.
fn dora_with(changes: Value) -> Result<Adapter, ModelError> {
    let model = goldens().join("qwen2");
    let config = ModelConfig::from_dir(&model).unwrap();
    let dir = model.join("adapters/r8-dora");
    let mut fields: Value =
        serde_json::from_slice(&fs::read(dir.join("adapter_config.json")).unwrap()).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        fields[name] = value.clone();
    }
    let weights = fs::read(dir.join("adapter_model.safetensors")).unwrap();
    Adapter::from_bytes(fields.to_string().as_bytes(), &weights, &config)
}

#[test]
fn magnitudes_without_dora_and_dora_without_magnitudes_are_refused() {
    assert!(dora_with(json!({})).is_ok());
    let unasked = message(dora_with(json!({"use_dora": false})));
    assert!(
        unasked.contains("lora_magnitude_vector does not belong"),
        "{unasked}"
    );
    let missing = message(adapter_with(json!({"use_dora": true})));
    assert!(
        missing.contains("lora_magnitude_vector is missing"),
        "{missing}"
    );
    for (name, value) in [
        ("use_dora", json!("yes")),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({"blocks": 2})),
        ("lora_bias", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
    ] {
        let error = message(dora_with(json!({name: value})));
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn magnitudes_of_another_length_or_not_finite_are_refused() {
    let model = goldens().join("qwen2");
    let config = ModelConfig::from_dir(&model).unwrap();
    let dir = model.join("adapters/r8-dora");
    let text = fs::read(dir.join("adapter_config.json")).unwrap();
    let good = fs::read(dir.join("adapter_model.safetensors")).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&good).unwrap();
    let name = "base_model.model.model.layers.0.self_attn.k_proj.lora_magnitude_vector";
    let load = |magnitudes: &[f32]| {
        let bytes: Vec<u8> = magnitudes.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut views: BTreeMap<&str, TensorView<'_>> = parsed.iter().collect();
        let replaced = TensorView::new(Dtype::F32, vec![magnitudes.len()], &bytes).unwrap();
        assert!(views.insert(name, replaced).is_some());
        let weights = safetensors::serialize(views, None).unwrap();
        Adapter::from_bytes(&text, &weights, &config)
    };
    assert!(load(&[1.0; 16]).is_ok());
    assert!(matches!(load(&[1.0; 15]), Err(ModelError::Shape { name: at, .. }) if at == name));
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let mut magnitudes = [1.0; 16];
        magnitudes[7] = value;
        assert!(matches!(load(&magnitudes), Err(ModelError::NonFinite { name: at }) if at == name));
    }
}

#[test]
fn a_fresh_dora_needs_the_base_weights() {
    let config = ModelConfig::from_dir(&goldens().join("qwen2")).unwrap();
    let mut lora = LoraConfig::new(4, 8.0, Targets::AllLinear);
    lora.use_dora = true;
    let error = message(Adapter::init(&config, lora.clone(), 1));
    assert!(error.contains("use_dora"), "{error}");
    let weights = Weights::random(&config, 1).unwrap();
    let adapter = Adapter::init_on(&config, &weights, lora.clone(), 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(adapter.save(folder.path()).unwrap(), adapter.digest);
    assert_eq!(Adapter::load(folder.path(), &config).unwrap().config, lora);
    let wider = config_with("qwen2", json!({"intermediate_size": 41})).unwrap();
    assert!(matches!(
        Adapter::init_on(&wider, &weights, lora.clone(), 1),
        Err(ModelError::Shape { .. })
    ));
    let deeper = config_with(
        "qwen2",
        json!({"num_hidden_layers": 3, "layer_types": null}),
    )
    .unwrap();
    assert!(Adapter::init_on(&deeper, &weights, lora, 1).is_err());
}

#[test]
fn damaged_adapter_weights_are_refused() {
    let dir = goldens().join("llama3");
    let config = ModelConfig::from_dir(&dir).unwrap();
    let text = fs::read(dir.join("adapters/r4/adapter_config.json")).unwrap();
    let good = fs::read(dir.join("adapters/r4/adapter_model.safetensors")).unwrap();
    let load = |bytes: &[u8]| Adapter::from_bytes(&text, bytes, &config);
    for length in [0, 8, 100, good.len() / 2, good.len() - 1] {
        assert!(matches!(
            load(&good[..length]),
            Err(ModelError::Safetensors { .. })
        ));
    }
    for value in [f32::NAN, f32::INFINITY] {
        let mut bytes = good.clone();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
        assert!(matches!(load(&bytes), Err(ModelError::NonFinite { .. })));
    }
    assert!(matches!(
        load(&vec![0; 64 << 20]),
        Err(ModelError::TooLarge { .. })
    ));
    // The right shape in a type that is not a float.
    let parsed = safetensors::SafeTensors::deserialize(&good).unwrap();
    let views: BTreeMap<String, TensorView<'_>> = parsed
        .iter()
        .map(|(name, view)| {
            let view = TensorView::new(Dtype::I32, view.shape().to_vec(), view.data()).unwrap();
            (name.to_string(), view)
        })
        .collect();
    let integers = safetensors::serialize(views, None).unwrap();
    assert!(matches!(load(&integers), Err(ModelError::DType { .. })));
}

#[test]
fn an_adapter_has_the_digest_of_its_bytes() {
    let adapter = adapter_with(json!({})).unwrap();
    assert_ne!(
        adapter.digest,
        adapter_with(json!({"lora_alpha": 17})).unwrap().digest
    );
    // Where one file ends and the other begins is part of the preimage.
    assert_ne!(peft::digest(b"ab", b"c"), peft::digest(b"a", b"bc"));
    let fresh = |seed| {
        let config = ModelConfig::from_dir(&goldens().join("llama3")).unwrap();
        Adapter::init(&config, LoraConfig::new(4, 8.0, Targets::AllLinear), seed).unwrap()
    };
    assert_eq!(fresh(1).digest, fresh(1).digest);
    assert_ne!(fresh(1).digest, fresh(2).digest);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fresh(1).save(folder.path()).unwrap(), fresh(1).digest);
}

#[test]
fn inputs_beyond_the_model_are_refused() {
    use candle_core::{Device, Tensor};
    let config = config_with("tied", json!({"max_position_embeddings": 4})).unwrap();
    let weights = Weights::random(&config, 1).unwrap();
    let run = |ids: &[u32]| {
        let ids = Tensor::new(ids, &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        openledger_model::forward(&config, &weights, None, &ids)
    };
    assert!(run(&[0, 1, 2, 159]).is_ok());
    assert!(message(run(&[0, 1, 2, 3, 4])).contains("5 tokens"));
    assert!(run(&[160]).is_err());
    let not_finite = weights
        .map(|_, tensor| Ok((tensor * f64::INFINITY)?))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        not_finite.save(folder.path(), StoredType::F32),
        Err(ModelError::NonFinite { .. })
    ));
}
