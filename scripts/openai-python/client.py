"""What users of the official client do, against a server whose address is the first argument."""

import json
import math
import re
import sys
import time
import urllib.request

import openai

SERVER = sys.argv[1]
MODEL = "small"
client = openai.OpenAI(base_url=f"{SERVER}/v1", api_key="none", max_retries=0, timeout=60)
QUESTION = [{"role": "user", "content": "Who founded the harbour of Maren?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather at a place",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "enum": ["Bern", "Oslo"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["place", "days"],
            "additionalProperties": False,
        },
    },
}


def wait():
    """Until the server says that it can answer."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{SERVER}/ready") as answer:
                assert json.load(answer)["ready"]
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server is not ready after a minute")


def models():
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def chat():
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=24, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    return answer.choices[0].message.content


def streaming(whole):
    stream = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=24,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, usage = "", None
    for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
        usage = chunk.usage or usage
    assert text == whole, (text, whole)
    assert usage.completion_tokens > 0


def several_and_stop():
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=16, n=3, seed=1, stop=[" "])
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(" " not in choice.message.content for choice in answer.choices)


def logprobs():
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=8, temperature=0, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        # Greedy: the token is the most probable one.
        assert token.token == token.top_logprobs[0].token
    text = client.completions.create(model=MODEL, prompt="The harbour of Maren", max_tokens=0, echo=True, logprobs=1)
    scores = text.choices[0].logprobs.token_logprobs
    assert scores[0] is None and text.choices[0].text == "The harbour of Maren"
    perplexity = math.exp(-sum(scores[1:]) / len(scores[1:]))
    assert 1 < perplexity < 1e4, perplexity


def embeddings():
    vectors = client.embeddings.create(model=MODEL, input=["The harbour", "Prices", "The harbour"]).data
    assert len(vectors) == 3 and vectors[0].embedding == vectors[2].embedding
    assert abs(sum(value * value for value in vectors[0].embedding) - 1) < 1e-4
    as_numbers = client.embeddings.create(model=MODEL, input="The harbour", encoding_format="float").data
    assert all(abs(a - b) < 1e-6 for a, b in zip(as_numbers[0].embedding, vectors[0].embedding, strict=True))


def tools():
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Bern?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=120,
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls", choice
    call = choice.message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "weather" and arguments["place"] in ("Bern", "Oslo")
    assert 1 <= arguments["days"] <= 7


def json_schema():
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=200,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "forecast", "strict": True, "schema": WEATHER["function"]["parameters"]},
        },
    )
    value = json.loads(answer.choices[0].message.content)
    assert set(value) == {"place", "days"}


def errors():
    for wrong, error in [
        ({"model": "unknown", "messages": QUESTION}, openai.NotFoundError),
        ({"model": MODEL, "messages": QUESTION, "temperature": 9}, openai.BadRequestError),
        ({"model": MODEL, "messages": [{"role": "user", "content": "long " * 2000}]}, openai.BadRequestError),
        ({"model": MODEL, "messages": QUESTION, "tools": [WEATHER]}, openai.UnprocessableEntityError),
    ]:
        try:
            client.chat.completions.create(**wrong)
        except error as raised:
            assert raised.body["message"]
        else:
            raise AssertionError(f"{error} was not raised")


def metrics():
    with urllib.request.urlopen(f"{SERVER}/metrics") as answer:
        page = answer.read().decode()
    for name in [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
        "vllm:prefix_cache_queries_total",
    ]:
        assert f"\n{name}" in page, name
    ended = r'\nvllm:request_success_total\{[^}]*finished_reason="length"'
    assert re.search(ended, page), page


def main():
    wait()
    models()
    streaming(chat())
    for check in [several_and_stop, logprobs, embeddings, tools, json_schema, errors, metrics]:
        check()
    print(f"openai {openai.__version__}: chat, streaming, logprobs, embeddings, tools, json_schema, errors, metrics")


main()
