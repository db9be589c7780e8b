"""Writes the quantised golden folders beside this file: small random models as compressed-tensors
packs them and as GGUF files, and the logits that transformers computes with their weights in f32.

    python -m venv venv && venv/bin/pip install -r requirements-quantised.txt
    venv/bin/python quantised.py

The same versions write the same bytes. README.md describes the layout.
"""

import json
import shutil

import numpy as np
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from transformers import AutoConfig, AutoModelForCausalLM

from generate import COMMON, HERE, PROMPTS, SMALL, logits, save_expected

GROUP = 16
Q = GGMLQuantizationType
NARROW = dict(hidden_size=32, intermediate_size=48, rms_norm_eps=1e-5)


def attention(heads, key_heads, theta):
    return dict(
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )


# What each folder of packed weights covers: the arrangement, and a family.
PACKED = {
    "int8-channel": dict(
        weights=dict(num_bits=8, type="int", strategy="channel"),
        format="int-quantized",
        stored=torch.bfloat16,
        config=dict(
            **SMALL,
            model_type="qwen2",
            **attention(4, 2, 1e6),
            tie_word_embeddings=False,
        ),
    ),
    "int8-group": dict(
        weights=dict(num_bits=8, type="int", strategy="group", group_size=GROUP),
        format="pack-quantized",
        stored=torch.float32,
        config=dict(
            **NARROW,
            model_type="mistral",
            **attention(4, 2, 1e6),
            head_dim=16,
            sliding_window=None,
            tie_word_embeddings=False,
        ),
    ),
    # The output projection is quantised too.
    "int4-group": dict(
        weights=dict(num_bits=4, type="int", strategy="group", group_size=GROUP),
        format="pack-quantized",
        stored=torch.bfloat16,
        ignore=["model.layers.1.mlp.down_proj"],
        config=dict(
            **NARROW,
            **attention(4, 2, 1e4),
            tie_word_embeddings=False,
        ),
    ),
    # Rows that end within a word.
    "int4-channel": dict(
        weights=dict(num_bits=4, type="int", strategy="channel"),
        format="pack-quantized",
        stored=torch.float16,
        ignore=["re:.*lm_head", "model.layers.0.self_attn.o_proj"],
        config=dict(
            hidden_size=36,
            intermediate_size=52,
            rms_norm_eps=1e-5,
            **attention(6, 3, 1e4),
            tie_word_embeddings=False,
        ),
    ),
    "fp8-channel": dict(
        weights=dict(num_bits=8, type="float", strategy="channel"),
        format="float-quantized",
        stored=torch.bfloat16,
        ignore=["lm_head"],
        config=dict(
            **SMALL,
            model_type="qwen3",
            **attention(4, 1, 1e6),
            head_dim=12,
            tie_word_embeddings=True,
        ),
    ),
    "fp8-tensor": dict(
        weights=dict(num_bits=8, type="float", strategy="tensor"),
        format="float-quantized",
        stored=torch.float32,
        ignore=["lm_head"],
        config=dict(
            **SMALL,
            **attention(4, 4, 1e4),
            tie_word_embeddings=False,
        ),
    ),
}

# GGUF files: the family's name in them, and a type for each kind of tensor.
GGUF = {
    "llama-q4_0": dict(
        types=dict(default=Q.Q4_0, token_embd=Q.Q8_0, attn_v=Q.Q5_0, ffn_down=Q.Q5_1, output=Q.Q4_1),
        config=dict(
            hidden_size=64,
            intermediate_size=96,
            rms_norm_eps=1e-5,
            num_attention_heads=4,
            num_key_value_heads=2,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            tie_word_embeddings=False,
        ),
    ),
    "qwen2-f16": dict(
        types=dict(default=Q.F16, ffn_up=Q.BF16, ffn_gate=Q.F32),
        config=dict(
            **SMALL,
            model_type="qwen2",
            **attention(4, 2, 1e6),
            tie_word_embeddings=True,
        ),
    ),
    "qwen3-k": dict(
        types=dict(
            default=Q.Q4_K,
            token_embd=Q.Q6_K,
            attn_v=Q.Q6_K,
            attn_k=Q.Q5_K,
            ffn_up=Q.Q3_K,
            ffn_gate=Q.Q2_K,
        ),
        config=dict(
            hidden_size=256,
            intermediate_size=256,
            num_hidden_layers=1,
            vocab_size=160,
            rms_norm_eps=1e-6,
            model_type="qwen3",
            **attention(4, 1, 1e6),
            head_dim=64,
            tie_word_embeddings=True,
        ),
    ),
}


def model_of(seed, spec, stored):
    torch.manual_seed(seed)
    config = AutoConfig.for_model(**{"model_type": "llama", **COMMON, **spec["config"]})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(stored)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5)
        if name.endswith("bias"):
            parameter.data.uniform_(-0.5, 0.5)
    return model.eval()


def pack(seed, name, spec):
    folder = HERE / "quantised" / name
    shutil.rmtree(folder, ignore_errors=True)
    model = model_of(seed, spec, spec["stored"])
    args = QuantizationArgs(symmetric=True, observer="minmax", **spec["weights"])
    config = QuantizationConfig(
        config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=args)},
        ignore=spec.get("ignore", []),
        format=spec["format"],
    )
    apply_quantization_config(model, config)
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is None:
            continue
        weight = module.weight.data
        if args.strategy == "group":
            parts = weight.reshape(weight.shape[0], -1, GROUP)
            low, high = parts.amin(-1), parts.amax(-1)
        elif args.strategy == "channel":
            low, high = weight.amin(-1, keepdim=True), weight.amax(-1, keepdim=True)
        else:
            low, high = weight.min().reshape(1), weight.max().reshape(1)
        module.weight_scale.data = calculate_qparams(low, high, args)[0].to(weight.dtype)
    compressor = ModelCompressor.from_pretrained_model(model, spec["format"])
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    read = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    save_expected(folder / "expected", "base", logits(read, 3))


def permuted(weight, heads):
    """The rows of a head as llama.cpp orders them for Llama: the halves interleaved."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return rows.swapaxes(1, 2).reshape(weight.shape)


def restored(weight, heads):
    rows = weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1)
    return rows.swapaxes(1, 2).reshape(weight.shape)


NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    fixed = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    module, _, kind = name.rpartition(".")
    if module in fixed:
        return fixed[module], f"{fixed[module]}.{kind}"
    _, _, layer, part = module.split(".", 3)
    return NAMES[part], f"blk.{layer}.{NAMES[part]}.{kind}"


def random_blocks(generator, kind, rows, columns):
    """Blocks of a type that the package can read and not write: random codes under sane scales."""
    size = {Q.Q2_K: 84, Q.Q3_K: 110, Q.Q4_K: 144, Q.Q5_K: 176, Q.Q6_K: 210}[kind]
    places = {Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}[kind]
    level = {Q.Q2_K: 0.02, Q.Q3_K: 0.004, Q.Q4_K: 0.0006, Q.Q5_K: 0.0003, Q.Q6_K: 0.000025}[kind]
    blocks = generator.integers(0, 256, (rows, columns // 256, size), dtype=np.uint8)
    for place in places:
        scale = generator.uniform(0.5, 1.5, blocks.shape[:2] + (1,)) * level
        blocks[:, :, place : place + 2] = scale.astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def gguf(seed, name, spec):
    folder = HERE / "gguf" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = model_of(seed, spec, torch.float32)
    config = model.config
    kind = config.model_type
    writer = GGUFWriter(folder / "model.gguf", kind)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if kind == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    generator = np.random.default_rng(seed)
    if config.rope_parameters["rope_type"] == "llama3":
        plain = 1.0 / config.rope_parameters["rope_theta"] ** (
            np.arange(0, 16, 2, dtype=np.float32) / 16
        )
        turned = model.model.rotary_emb.inv_freq.numpy()
        writer.add_tensor("rope_freqs.weight", (plain / turned).astype(np.float32))
    for parameter_name, parameter in model.named_parameters():
        short, full = gguf_name(parameter_name)
        values = parameter.data.numpy()
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        swap = heads.get(short) if kind == "llama" else None
        if swap:
            values = permuted(values, swap)
        if values.ndim == 1:
            writer.add_tensor(full, values)
            continue
        target = spec["types"].get(short, spec["types"]["default"])
        if target.name.endswith("_K"):
            data = random_blocks(generator, target, *values.shape)
        else:
            data = quantize(values, target)
        writer.add_tensor(full, data, raw_dtype=target)
        read = dequantize(data, target).reshape(values.shape).astype(np.float32)
        parameter.data = torch.from_numpy(restored(read, swap) if swap else read)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.config._attn_implementation = "eager"
    save_expected(folder / "expected", "base", logits(model, 3))


def main():
    for seed, (name, spec) in enumerate(PACKED.items(), 100):
        pack(seed, name, spec)
    for seed, (name, spec) in enumerate(GGUF.items(), 200):
        gguf(seed, name, spec)
    print(json.dumps({"prompts": [len(p) for p in PROMPTS[:3]]}))


if __name__ == "__main__":
    main()
