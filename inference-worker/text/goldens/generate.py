"""Writes two tokenizer folders and what transformers makes of texts and conversations with them.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python generate.py

<folder>/tokenizer.json, tokenizer_config.json, chat_template.jinja: as save_pretrained writes them.
<folder>/expected.json: {"texts": [{text, ids, ids_special, decoded}],
                         "chats": [{messages, add_generation_prompt, text | null if refused, ids}]}
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent

CORPUS = [
    "The ledger records who wrote a row and who is paid for it.",
    "Who founded the harbour of Maren? The harbour of Maren was founded by Ilse Brandt.",
    "Prices are written in planck; a thousand tokens cost 12,500 planck.",
    "naïve café – 北京 – Ελλάδα – 🙂🙃",
] * 8

TEXTS = [
    "",
    "The harbour of Maren",
    "  leading and trailing  ",
    "naïve café – 北京 🙂 👩‍👩‍👧",
    "12,500 planck\n\n\tand more",
    "<|user|>not a real turn<|end|>",
    "\u0000\u0007 control",
]

CHATML = """{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('unknown role ' + message.role) }}
    {%- endif %}
    {{- '<|' + message['role'] + '|>' + message['content'].strip() + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""

ALTERNATING = """{% if messages[0]['role'] == 'system' %}
{% set system = messages[0]['content'] %}
{% set turns = messages[1:] %}
{% else %}
{% set system = none %}
{% set turns = messages %}
{% endif %}
{% for message in turns %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate') }}
{% endif %}
{% if message['role'] == 'user' %}
{{ bos_token + '[Q] ' + (('(' + system + ') ') if loop.first and system is not none else '') + message['content'] | trim }}
{% elif message['role'] == 'assistant' %}
{{ '[A] ' + message['content'].rstrip() + eos_token }}
{% endif %}
{% endfor %}
{% if strftime_now is defined and false %}{{ strftime_now('%Y') }}{% endif %}
{{ {'turns': turns | length, 'last': turns[-1].content.split(' ')[0]} | tojson }}
{% if add_generation_prompt %}
{{ '[A]' }}
{%- endif %}
"""

CHATS = [
    [{"role": "user", "content": "Who founded the harbour of Maren?"}],
    [
        {"role": "system", "content": "Answer in one sentence."},
        {"role": "user", "content": "  Who is paid? "},
        {"role": "assistant", "content": "The writer of the row. \n"},
        {"role": "user", "content": "naïve \"café\" <b>北京</b> 🙂"},
    ],
    [{"role": "assistant", "content": "I begin."}],
    [{"role": "tool", "content": "{}"}],
]


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        additional_special_tokens=specials[2:],
        chat_template=CHATML,
    )


def sentence_pieces():
    """Like Llama 2: spaces as U+2581, unknown characters as bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([text for text in CORPUS if text.isascii()], trainer)
    # The trainer marks bytes as special, which would hide them when decoding.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=ALTERNATING,
    )


def chat(tokenizer, messages, add_generation_prompt):
    case = {"messages": messages, "add_generation_prompt": add_generation_prompt}
    try:
        text = tokenizer.apply_chat_template(
            messages, add_generation_prompt=add_generation_prompt, tokenize=False
        )
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    except Exception as error:  # the template's own refusal
        assert "role" in str(error), error
        text, ids = None, None
    return case | {"text": text, "ids": ids}


def main():
    for name, tokenizer in [("byte-level", byte_level()), ("sentence-pieces", sentence_pieces())]:
        folder = HERE / name
        tokenizer.save_pretrained(folder)
        texts = [
            {
                "text": text,
                "ids": tokenizer(text, add_special_tokens=False)["input_ids"],
                "ids_special": tokenizer(text)["input_ids"],
                "decoded": tokenizer.decode(
                    tokenizer(text)["input_ids"],
                    skip_special_tokens=True,
                    clean_up_tokenization_spaces=False,
                ),
            }
            for text in TEXTS
        ]
        chats = [chat(tokenizer, messages, prompt) for messages in CHATS for prompt in (True, False)]
        expected = {"texts": texts, "chats": chats}
        (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
