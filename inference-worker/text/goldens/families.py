"""Writes families/expected.json: what transformers makes of conversations by the four templates there,
which are written in the style of model families and use what those use of Jinja.

    venv/bin/python families.py   (the environment of generate.py)

[{template, messages, tools, variables, add_generation_prompt, text | null if refused}]
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent / "families"

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <now> at a place, \u2013 \u5317\u4eac too",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "a town"},
                    "days": {"type": "integer", "enum": [1, 3, 7]},
                    "at": {"type": "array", "items": {}},
                },
                "required": ["place"],
            },
        },
    },
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}},
]


def call(identity, name, arguments):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


HELLO = [{"role": "user", "content": "  Who is paid? "}]
TURNS = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "na\u00efve \"caf\u00e9\" <b>\u5317\u4eac</b> \U0001f642"},
    {"role": "assistant", "content": "<think>\nlong\n</think>\n\nThe writer.\n"},
    {"role": "user", "content": "And then?"},
]
CALLED = [
    {"role": "user", "content": "Weather in Bern?"},
    {"role": "assistant", "content": "", "tool_calls": [call("call1", "weather", {"place": "Bern", "days": 3})]},
    {"role": "tool", "tool_call_id": "call1", "content": "{\"sky\": \"grey\"}"},
    {"role": "assistant", "content": "Grey."},
    {"role": "user", "content": "And the time?"},
]
TWICE = [
    {"role": "user", "content": "Both?"},
    {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [call("call1", "weather", {"place": "\u00dcr\u00fcmqi"}), call("call2", "time", {})],
    },
    {"role": "tool", "tool_call_id": "call1", "content": "dry"},
    {"role": "tool", "tool_call_id": "call2", "content": "12:00"},
]
UNKNOWN = [{"role": "boss", "content": "Now!"}]
ALONE = [{"role": "assistant", "content": "I begin."}]


def main():
    cases = []
    for template in sorted(HERE.glob("*.jinja")):
        for messages in [HELLO, TURNS, CALLED, TWICE, UNKNOWN, ALONE]:
            for tools in [[], TOOLS]:
                for prompt in [True, False]:
                    variables = {"date_string": "21 Nov 2026", "enable_thinking": prompt and bool(tools)}
                    try:
                        text = render_jinja_template(
                            conversations=[messages],
                            tools=tools or None,
                            chat_template=template.read_text(),
                            add_generation_prompt=prompt,
                            **SPECIAL,
                            **variables,
                        )[0][0]
                    except Exception as error:  # the template's own refusal
                        assert "role" in str(error), (template, messages, error)
                        text = None
                    cases.append(
                        {
                            "template": template.name,
                            "messages": messages,
                            "tools": tools,
                            "variables": variables,
                            "add_generation_prompt": prompt,
                            "text": text,
                        }
                    )
    (HERE / "expected.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
