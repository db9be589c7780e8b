"""Writes the golden folders beside this file: small random models of four families and their
adapters as transformers and PEFT save them, and the logits that those libraries compute.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python generate.py

The same versions write the same bytes. README.md describes the layout.
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
VOCAB = 160
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 50000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 48,
}

# Large weights, so that a wrong rotation, norm or head shows in the logits.
COMMON = dict(
    vocab_size=VOCAB,
    hidden_size=48,
    num_hidden_layers=2,
    max_position_embeddings=256,
    initializer_range=0.12,
    bos_token_id=1,
    eos_token_id=2,
)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Ranks 4, 8, 16 and 64 in one adapter, and alphas of some modules.
RAGGED = dict(
    r=8,
    lora_alpha=8,
    target_modules=ALL,
    rank_pattern={"q_proj": 4, "o_proj": 16, "layers.1.mlp.down_proj": 64},
    alpha_pattern={"v_proj": 12, "layers.0.mlp.up_proj": 3},
    use_rslora=True,
    stored=torch.bfloat16,
)

# What every family after the first has: LoRA and DoRA, each plain and with all that varies.
ADAPTERS = {
    "r4": dict(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"]),
    "ragged": RAGGED,
    "r8-dora": dict(
        r=8, lora_alpha=8, target_modules=["k_proj", "v_proj", "o_proj", "gate_proj"], use_dora=True
    ),
    "ragged-dora": dict(**RAGGED, use_dora=True),
}
SMALL = dict(hidden_size=32, intermediate_size=40, rms_norm_eps=1e-6)

MODELS = {
    "llama2": dict(
        config=dict(
            intermediate_size=96,
            num_attention_heads=4,
            num_key_value_heads=4,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=False,
        ),
        stored=torch.float32,
        adapters={
            "r4": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
            "r16": dict(r=16, lora_alpha=16, target_modules="all-linear"),
        },
    ),
    # The head's width is not hidden / heads, and several query heads share a key head.
    "llama3": dict(
        config=dict(
            intermediate_size=112,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=16,
            rms_norm_eps=1e-6,
            rope_parameters=LLAMA3_ROPE,
            tie_word_embeddings=False,
        ),
        stored=torch.bfloat16,
        adapters={
            "r4": dict(r=4, lora_alpha=16, target_modules=ALL),
            "r8-rslora": dict(r=8, lora_alpha=8, use_rslora=True, target_modules=ALL),
            "r16-patterns": dict(
                r=16,
                lora_alpha=16,
                target_modules=ALL,
                rank_pattern={"down_proj": 4, "layers.0.self_attn.q_proj": 24},
                alpha_pattern={"o_proj": 40, "layers.1.mlp.up_proj": 5},
            ),
            "r64-regex": dict(
                r=64,
                lora_alpha=64,
                target_modules=r"model\.layers\.\d+\.self_attn\.(q|o)_proj",
                stored=torch.bfloat16,
            ),
            "r8-dora": dict(**ADAPTERS["r8-dora"], prompts=3),
            "ragged-dora": dict(**ADAPTERS["ragged-dora"], prompts=3),
        },
    ),
    "tied": dict(
        config=dict(
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=1,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=True,
        ),
        stored=torch.float16,
        adapters={
            "r8-exclude": dict(
                r=8, lora_alpha=16, target_modules=ALL, exclude_modules=["o_proj", "layers.0.mlp.up_proj"]
            ),
        },
    ),
    "sharded": dict(
        config=dict(
            intermediate_size=64,
            num_attention_heads=2,
            num_key_value_heads=2,
            rms_norm_eps=1e-5,
            rope_parameters=LLAMA3_ROPE,
            tie_word_embeddings=False,
        ),
        stored=torch.float32,
        shard="64KB",
        adapters={},
    ),
    "mistral": dict(
        config=dict(
            **SMALL,
            model_type="mistral",
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=None,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            tie_word_embeddings=False,
        ),
        stored=torch.bfloat16,
        prompts=3,
        adapters=ADAPTERS,
    ),
    # The window is longer than the context, and turned off.
    "qwen2": dict(
        config=dict(
            **SMALL,
            model_type="qwen2",
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=256,
            use_sliding_window=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            tie_word_embeddings=False,
        ),
        stored=torch.bfloat16,
        prompts=3,
        adapters=ADAPTERS,
    ),
    # The queries are wider than the hidden states.
    "qwen3": dict(
        config=dict(
            **SMALL,
            model_type="qwen3",
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=12,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            tie_word_embeddings=True,
        ),
        stored=torch.bfloat16,
        prompts=3,
        adapters=ADAPTERS,
    ),
}

generator = torch.Generator().manual_seed(11)
PROMPTS = [
    torch.randint(0, VOCAB, (length,), generator=generator).tolist() for length in (1, 5, 23, 97)
]


def logits(model, prompts):
    """Logits of the first `prompts` prompts, `[tokens, vocab]` each."""
    with torch.no_grad():
        return [model(torch.tensor([prompt])).logits[0].float() for prompt in PROMPTS[:prompts]]


def save_expected(folder, name, values):
    folder.mkdir(exist_ok=True)
    named = {f"logits.{i}": value.contiguous() for i, value in enumerate(values)}
    save_file(named, folder / f"{name}.safetensors")


def effect(with_adapter, without):
    """The least by which the adapter moves some logit, over all positions."""
    moves = [(a - b).abs().amax(dim=-1).min() for a, b in zip(with_adapter, without)]
    return min(moves)


def build(seed, name, spec):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    config = AutoConfig.for_model(**{"model_type": "llama", **COMMON, **spec["config"]})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(spec["stored"])
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name:
            parameter.data.uniform_(0.5, 1.5)
        # Fresh biases are zero: a forgotten one would not show.
        if parameter_name.endswith("bias"):
            parameter.data.uniform_(-0.5, 0.5)
    model.generation_config.do_sample = False
    model.save_pretrained(folder, max_shard_size=spec.get("shard", "5GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)

    def base():
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    plain = logits(base(), spec.get("prompts"))
    save_expected(folder / "expected", "base", plain)
    for adapter, options in spec["adapters"].items():
        options = dict(options)
        prompts = options.pop("prompts", spec.get("prompts"))
        stored = options.pop("stored", None)
        # Random B: a fresh adapter would change nothing.
        lora = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **options)
        wrapped = get_peft_model(base(), lora)
        for parameter_name, parameter in wrapped.named_parameters():
            # Fresh magnitudes are the lengths that the rows have: DoRA would be LoRA.
            if "lora_magnitude_vector" in parameter_name:
                parameter.data *= torch.empty_like(parameter).uniform_(0.5, 1.5)
            # One of the stored types that adapters come in, besides f32.
            if "lora_" in parameter_name and stored:
                parameter.data = parameter.data.to(stored)
        target = folder / "adapters" / adapter
        wrapped.save_pretrained(target)
        (target / "README.md").unlink(missing_ok=True)
        path = target / "adapter_config.json"
        text = json.loads(path.read_text())
        text["base_model_name_or_path"] = name
        # PEFT keeps them as a set, whose order differs from run to run.
        for field in ["target_modules", "exclude_modules"]:
            if isinstance(text[field], list):
                text[field].sort()
        path.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")

        def changed():
            return PeftModel.from_pretrained(base(), target, autocast_adapter_dtype=True).eval()

        found = logits(changed(), prompts)
        assert effect(found, plain) >= 0.05, (name, adapter)
        if lora.use_dora:
            undone = changed()
            for module in undone.modules():
                if hasattr(module, "use_dora"):
                    module.use_dora = {key: False for key in module.use_dora}
                if hasattr(module, "lora_variant"):
                    module.lora_variant.clear()
            assert effect(found, logits(undone, prompts)) >= 0.05, (name, adapter, "magnitude")
        save_expected(folder / "expected", adapter, found)


def main():
    (HERE / "prompts.json").write_text(json.dumps(PROMPTS) + "\n")
    for seed, (name, spec) in enumerate(MODELS.items()):
        build(seed, name, spec)


if __name__ == "__main__":
    main()
