"""Measures the engine against Hugging Face PEFT: the same model and adapters from the same files, the same
requests, the same number of threads, rounds in turns.

Each round is 32 requests of 32 + 32 tokens, greedy, each with another one of 64 adapters: the load that the
bars are for; other numbers can be asked for. PEFT answers
them in two ways: one after the other, switching adapters, and in one batch by `adapter_names`. The engine
gets them as one JSON line and answers with one; the time of both lines counts. Every answer of the three is
compared token by token.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

PROMPT = 32
OUTPUT = 32
RANK = 16
VOCABULARY = 6400
BARS = {"switching": 10.0, "mixed": 4.0}
# Two libraries add in different orders: where two tokens are nearer than this, either may win.
NEAR = 1e-3


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory(prefix="openledger-peft-") as folder:
        folder = Path(folder)
        parameters = write_files(folder, args.seed, args.adapters)
        model = load_peft(folder, args.adapters)
        with Engine(args, folder) as engine:
            report = compare(model, engine, args)
        report["parameters"] = parameters
    show(report)
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--worker", required=True, help="the openledger-worker program")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each side (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--adapters", type=int, default=64, help="loaded on each side (default 64)")
    parser.add_argument("--requests", type=int, default=32, help="of a round (default 32)")
    parser.add_argument("--json", help="file to write everything measured to")
    args = parser.parse_args()
    if args.repeats < 1 or args.threads < 1:
        parser.error("--repeats and --threads must be at least 1")
    if not 1 <= args.requests <= args.adapters <= 100:
        parser.error("--requests is from 1 to --adapters, and that at most 100")
    return args


def write_files(folder, seed, adapters):
    """Writes the base model and the adapters as transformers and PEFT save them; gives the base's size."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        # Larger than a fresh model's, so that tokens are told apart.
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=None,
    )
    base = LlamaForCausalLM(config)
    base.save_pretrained(folder / "base")
    parameters = base.num_parameters()
    # Without its own initialisation `B` is random instead of zero: a fresh adapter would change nothing.
    lora = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", init_lora_weights=False
    )
    model = get_peft_model(base, lora, adapter_name=name(0))
    for n in range(1, adapters):
        model.add_adapter(name(n), lora)
    model.save_pretrained(folder / "adapters")
    return parameters


def name(n):
    return f"a{n:02}"


def load_peft(folder, count):
    """PEFT's side, from the files."""
    base = LlamaForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    adapters = folder / "adapters"
    model = PeftModel.from_pretrained(base, adapters / name(0), adapter_name=name(0))
    for n in range(1, count):
        model.load_adapter(adapters / name(n), adapter_name=name(n))
    model.eval()
    return model


class Engine:
    """The engine's side: a process that answers rounds."""

    def __init__(self, args, folder):
        command = [args.worker, "bench", "rounds", "--base", folder / "base"]
        command += ["--adapters", folder / "adapters", "--threads", str(args.threads)]
        pipe = subprocess.PIPE
        environment = {**os.environ, "RUST_LOG": "warn"}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        hello = self.line()
        assert hello["adapters"] == args.adapters, hello
        self.backend = hello["backend"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the engine's process has ended; its words are above")
        return json.loads(line)

    def answer(self, prompts, names):
        requests = [
            {"prompt": prompt, "adapter": adapter, "max_tokens": OUTPUT}
            for prompt, adapter in zip(prompts, names)
        ]
        self.process.stdin.write(json.dumps(requests) + "\n")
        self.process.stdin.flush()
        return self.line()["outputs"]


def generate(model, prompts, **more):
    tokens = torch.tensor(prompts)
    out = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=OUTPUT,
        min_new_tokens=OUTPUT,
        do_sample=False,
        pad_token_id=0,
        **more,
    )
    return out[:, PROMPT:].tolist()


def switching(model, prompts, names):
    outputs = []
    for prompt, adapter in zip(prompts, names):
        model.set_adapter(adapter)
        outputs += generate(model, [prompt])
    return outputs


def mixed(model, prompts, names):
    return generate(model, prompts, adapter_names=names)


def compare(model, engine, args):
    draw = random.Random(args.seed)
    sides = {
        "engine": engine.answer,
        "mixed": lambda prompts, names: mixed(model, prompts, names),
        "switching": lambda prompts, names: switching(model, prompts, names),
    }
    seconds = {side: [] for side in sides}
    ties = 0
    for repeat in range(args.repeats + 1):
        prompts = [[draw.randrange(VOCABULARY) for _ in range(PROMPT)] for _ in range(args.requests)]
        names = [name(n) for n in draw.sample(range(args.adapters), args.requests)]
        order = list(sides)
        # Another one first in each round.
        order = order[repeat % 3 :] + order[: repeat % 3]
        outputs = {}
        for side in order:
            started = time.perf_counter()
            outputs[side] = sides[side](prompts, names)
            took = time.perf_counter() - started
            # The first round warms all up.
            if repeat > 0:
                seconds[side].append(took)
            print(f"round {repeat}, {side}: {took:.2f} s", file=sys.stderr)
        for side in ("engine", "mixed"):
            ties += same(model, prompts, names, outputs["switching"], outputs[side], side)
        if repeat == 0:
            base = engine.answer(prompts, [None] * args.requests)
            alike = sum(a == b for a, b in zip(base, outputs["engine"]))
            if alike:
                sys.exit(f"{alike} answers are the base model's: the adapters change nothing")
    rates = {side: [args.requests * OUTPUT / took for took in seconds[side]] for side in sides}
    ratios = {
        side: [ours / theirs for ours, theirs in zip(rates["engine"], rates[side])]
        for side in BARS
    }
    return {
        "seed": args.seed,
        "threads": args.threads,
        "repeats": args.repeats,
        "requests": args.requests,
        "prompt": PROMPT,
        "output": OUTPUT,
        "adapters": args.adapters,
        "rank": RANK,
        "backend": engine.backend,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "machine": {"processor": processor(), "load_average": os.getloadavg()[0]},
        "seconds": seconds,
        "tokens_per_second": {side: statistics.median(rates[side]) for side in sides},
        "ratios": {
            side: {
                "ratio": statistics.median(ratios[side]),
                "bar": bar,
                "achieved": statistics.median(ratios[side]) / bar,
                "repeats": ratios[side],
            }
            for side, bar in BARS.items()
        },
        "answers_compared": 2 * args.requests * (args.repeats + 1),
        "answers_that_part_at_a_tie": ties,
    }


def same(model, prompts, names, expected, outputs, side):
    """Ends the program unless all answers are the same, but for ties; gives the number of those."""
    ties = 0
    for prompt, adapter, ours, theirs in zip(prompts, names, outputs, expected):
        if ours == theirs:
            continue
        at = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), OUTPUT)
        if at == OUTPUT:
            sys.exit(f"{side} answers with {len(ours)} tokens instead of {OUTPUT}")
        model.set_adapter(adapter)
        logits = model(input_ids=torch.tensor([prompt + theirs[:at]])).logits[0, -1]
        gap = float(logits[theirs[at]] - logits[ours[at]])
        if abs(gap) > NEAR:
            sys.exit(
                f"{side} answers with another token at {at} of adapter {adapter}: "
                f"its logit is {gap:.4f} below PEFT's choice"
            )
        ties += 1
    return ties


def processor():
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return next((value.strip() for key, value in lines if key.strip() == "model name"), "")


def show(report):
    versions = ", ".join(f"{what} {version}" for what, version in report["versions"].items())
    print(f"{report['machine']['processor']}, {report['threads']} threads on each side; {versions}")
    print(
        f"{report['parameters'] / 1e6:.1f} M parameters, seeded random weights (seed {report['seed']}), "
        f"{report['adapters']} adapters of rank {RANK}, all-linear; "
        f"{report['requests']} requests of {PROMPT} + {OUTPUT} tokens"
    )
    print(f"{report['backend']}; medians of {report['repeats']} rounds in turns, output tok/s")
    rates = report["tokens_per_second"]
    for side, what in (
        ("switching", "PEFT, switching adapters per request"),
        ("mixed", "PEFT, one batch by adapter_names"),
        ("engine", "this engine"),
    ):
        print(f"  {what:<38} {rates[side]:>8.0f}")
    for side, what in (("switching", "engine / switching"), ("mixed", "engine / one batch")):
        one = report["ratios"][side]
        print(
            f"  {what:<38} {one['ratio']:>8.2f} / {one['bar']:<4.1f} = {one['achieved']:.2f} of the bar"
        )
    print(
        f"  {report['answers_compared']} answers compared token by token: the same, but for "
        f"{report['answers_that_part_at_a_tie']} that part where two logits are within {NEAR}"
    )


if __name__ == "__main__":
    main()
