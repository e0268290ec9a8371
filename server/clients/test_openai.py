"""OpenAI's own client for Python against the server."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import openai
import pytest
from conftest import LONG, Server, until
from pydantic_core import from_json

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
HELLO = [SYSTEM, {"role": "user", "content": "Hello."}]
HELLO_ANSWER = "Hello! Tell me a story, and I will answer questions about it."
STORY = [SYSTEM, {"role": "user", "content": "Tell me a story."}]
# A reply that does not end by itself.
LONG_REPLY = {"prompt": "One cold day", "max_tokens": 1500, "temperature": 0}


def client_of(server: Server, key: str = "none", retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key=key, max_retries=retries, timeout=120)


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return client_of(server)


@pytest.fixture(scope="module")
def chat(server: Server, client: openai.OpenAI):
    """Asks for a greedy reply to `HELLO`, unless told otherwise."""
    return lambda **more: client.chat.completions.create(**{"model": server.model, "messages": HELLO, "temperature": 0, **more})


@pytest.fixture(scope="module")
def complete(server: Server, client: openai.OpenAI):
    """Asks for a greedy continuation, unless told otherwise."""
    return lambda **more: client.completions.create(
        **{"model": server.model, "prompt": "One cold day", "temperature": 0, "max_tokens": 12, **more}
    )


# Models and replies.


def test_models(server, client):
    (one,) = client.models.list().data
    assert (one.id, one.object, one.owned_by) == (server.model, "model", "selvedge")
    assert client.models.retrieve(server.model) == one
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-5")
    assert refused.value.code == "model_not_found"


def test_chat_whole_and_streamed(chat):
    whole = chat()
    assert whole.choices[0].message.content == HELLO_ANSWER
    assert whole.choices[0].message.role == "assistant"
    assert whole.choices[0].finish_reason == "stop"
    chunks = list(chat(stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == HELLO_ANSWER
    assert deltas[0].role == "assistant" and len(chunks) > 10
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1 and all(chunk.usage is None for chunk in chunks)
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}]
    developer = {"role": "developer", "content": SYSTEM["content"]}
    assert chat(messages=[developer, *parts]).choices[0].message.content == HELLO_ANSWER


def test_stream_helper(client, server):
    with client.chat.completions.stream(model=server.model, messages=HELLO, temperature=0) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == HELLO_ANSWER
    assert events[-1] == "content.done" and events.count("content.delta") > 10


def test_usage_of_a_stream(chat, complete):
    usage = chat().usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    *chunks, last = chat(stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage.completion_tokens == usage.completion_tokens
    assert last.usage.prompt_tokens == usage.prompt_tokens
    assert last.usage.prompt_tokens_details.cached_tokens > 0
    assert all(chunk.usage is None for chunk in chunks)
    *_, last = complete(stream=True, max_tokens=3, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage.completion_tokens == 3


def test_stop(chat, complete):
    stopped = chat(stop=["story", "never"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("Hello! Tell me a ", "stop")
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chat(stop="story", stream=True))
    assert streamed == "Hello! Tell me a "
    text = complete(max_tokens=40).choices[0].text
    assert "." in text
    assert complete(max_tokens=40, stop=".").choices[0].text == text.split(".")[0]


def test_length(chat):
    for field in ("max_tokens", "max_completion_tokens"):
        cut = chat(**{field: 3})
        assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 3)
    assert chat(max_tokens=99, max_completion_tokens=2).usage.completion_tokens == 2


def test_seed(chat):
    def drawn(seed, **more):
        return chat(messages=STORY, temperature=1.5, max_tokens=30, seed=seed, **more)

    texts = [drawn(seed).choices[0].message.content for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in drawn(1, stream=True))
    assert streamed.rstrip() == texts[0].rstrip()


def test_several_choices(chat, complete):
    def texts(choices):
        return [choice.message.content for choice in choices]

    reply = chat(messages=STORY, temperature=1.5, seed=42, n=3, max_tokens=20)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len(set(texts(reply.choices))) == 3
    assert reply.usage.completion_tokens <= 60
    again = chat(messages=STORY, temperature=1.5, seed=42, n=3, max_tokens=20)
    assert texts(again.choices) == texts(reply.choices)
    parts = ["", "", ""]
    for chunk in chat(messages=STORY, temperature=1.5, seed=42, n=3, max_tokens=20, stream=True):
        for choice in chunk.choices:
            parts[choice.index] += choice.delta.content or ""
    assert [part.rstrip() for part in parts] == [text.rstrip() for text in texts(reply.choices)]
    several = complete(prompt=["One cold day", "Hello."], n=2, max_tokens=4)
    first, second, third, fourth = (choice.text for choice in several.choices)
    assert first == second != third == fourth


def test_logprobs_of_a_chat(chat):
    choice = chat(logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert "".join(token.token for token in content).strip() == HELLO_ANSWER
    for token in content:
        top = token.top_logprobs
        assert len(top) == 3 and (top[0].token, top[0].logprob) == (token.token, token.logprob)
        assert 0 >= top[0].logprob >= top[1].logprob >= top[2].logprob
        assert bytes(token.bytes).decode() == token.token
    streamed = [
        token
        for chunk in chat(logprobs=True, top_logprobs=3, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert streamed == content
    assert chat().choices[0].logprobs is None
    assert all(token.top_logprobs == [] for token in chat(logprobs=True).choices[0].logprobs.content)


def test_bytes_of_tokens_that_are_no_text(chat):
    """A token of a part of a character has its own bytes, not those of U+FFFD."""
    content = chat(temperature=30, seed=1, max_tokens=60, logprobs=True).choices[0].logprobs.content
    replacement = [token for token in content if "\ufffd" in token.token]
    assert replacement, "another seed draws a byte"
    assert all(bytes(token.bytes) != "\ufffd".encode() for token in replacement)


def test_logprobs_of_a_completion(complete):
    logprobs = complete(logprobs=2, max_tokens=9).choices[0].logprobs
    assert {len(logprobs.tokens), len(logprobs.token_logprobs), len(logprobs.top_logprobs)} == {9}
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert len(top) == 2 and top[token] == logprob == max(top.values())
    offsets = [0]
    for token in logprobs.tokens[:-1]:
        offsets.append(offsets[-1] + len(token))
    assert logprobs.text_offset == offsets
    assert complete(max_tokens=1).choices[0].logprobs is None


def test_offsets_of_a_streamed_completion(complete):
    whole = complete(logprobs=1).choices[0].logprobs
    parts = [chunk.choices[0].logprobs for chunk in complete(logprobs=1, stream=True)]
    assert [token for part in parts if part for token in part.tokens] == whole.tokens
    assert [offset for part in parts if part for offset in part.text_offset] == whole.text_offset


def test_completions_of_text_and_of_token_ids(server, complete):
    text = complete(prompt="Anna ate some").choices[0].text
    _, tokenized = server.post("/tokenize", {"prompt": "Anna ate some"})
    assert complete(prompt=tokenized["tokens"]).choices[0].text == text
    assert complete(prompt=[tokenized["tokens"]] * 2).choices[1].text == text
    assert complete(prompt=["Hello.", "Anna ate some"]).choices[1].text == text
    assert "".join(chunk.choices[0].text for chunk in complete(prompt="Anna ate some", stream=True)) == text
    _, rendered = server.post("/v1/chat/completions/render", {"messages": HELLO})
    assert complete(prompt=rendered["token_ids"], max_tokens=40).choices[0].text.strip() == HELLO_ANSWER


def test_headers(server, client):
    raw = client.chat.completions.with_raw_response.create(model=server.model, messages=HELLO, temperature=0)
    assert raw.status_code == 200 and raw.headers["content-type"] == "application/json"
    assert int(raw.headers["content-length"]) == len(raw.content)
    assert raw.parse().choices[0].message.content == HELLO_ANSWER
    with client.chat.completions.with_streaming_response.create(model=server.model, messages=HELLO, stream=True) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.headers["cache-control"] == "no-cache"
        lines = [line for line in streamed.iter_lines() if line]
    assert lines[-1] == "data: [DONE]" and all(line.startswith("data: ") for line in lines)


# Errors.


def test_bad_requests(chat, complete):
    def refused(param, code=None, ask=chat, **more):
        with pytest.raises(openai.BadRequestError) as error:
            ask(**more)
        found = error.value
        assert (found.status_code, found.param, found.code) == (400, param, code), found.body
        assert found.type == "invalid_request_error" and len(found.body["message"]) > 5

    refused("messages", messages=[])
    refused("messages", messages=[{"role": "wizard", "content": "x"}])
    refused("messages", messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
    refused("n", n=0)
    refused("n", n=17)
    refused("stop", stop=["x"] * 17)
    refused("top_logprobs", top_logprobs=2)
    refused("top_logprobs", logprobs=True, top_logprobs=21)
    refused("prompt", ask=complete, prompt=["a"] * 65)
    refused(None, "context_length_exceeded", messages=[{"role": "user", "content": "word " * 20_000}])
    refused(None, "context_length_exceeded", ask=complete, prompt="word " * 20_000, stream=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1), ("top_p", 7), ("frequency_penalty", 1e9), ("seed", "one"), ("max_tokens", -1), ("top_k", -2)],
)
def test_errors_name_the_field(chat, field, value):
    with pytest.raises(openai.BadRequestError) as error:
        chat(extra_body={field: value})
    assert error.value.param == field, error.value.body


def test_not_found(client, chat):
    with pytest.raises(openai.NotFoundError) as error:
        chat(model="gpt-5")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as error:
        client.images.generate(prompt="a cat")
    assert error.value.code == "not_found"


def test_other_statuses(chat):
    with pytest.raises(openai.PermissionDeniedError):
        chat(extra_headers={"Host": "evil.example"})
    with pytest.raises(openai.APIStatusError) as error:
        chat(extra_headers={"Content-Type": "text/plain"})
    assert error.value.status_code == 415
    with pytest.raises(openai.APIStatusError) as error:
        chat(messages=[{"role": "user", "content": "x" * (9 << 20)}], extra_headers={"Connection": "close"})
    assert error.value.status_code == 413


def test_keys(start):
    closed = start("--api-key", "sesame")
    assert client_of(closed, "sesame").models.list().data[0].id == closed.model
    for key in ("wrong", "sesam", "sesame2"):
        with pytest.raises(openai.AuthenticationError) as error:
            client_of(closed, key).chat.completions.create(model=closed.model, messages=HELLO)
        assert (error.value.status_code, error.value.code) == (401, "invalid_api_key")
    status = closed.request("/v1/models", headers={"Authorization": "bearer sesame"})[0]
    assert status == 200, "the scheme's name has no case (RFC 9110, 11.1)"
    assert "sesame" not in "\n".join(closed.log)


def one_running_one_waiting(small, client, threads, long):
    """A stream that is being made in the only slot, and a request behind it."""
    running = client.completions.create(**long, stream=True)
    until(lambda: small.metric("requests_running") == 1)
    waiting = threads.submit(client.completions.create, **{**long, "max_tokens": 2})
    until(lambda: small.metric("requests_waiting") == 1)
    return running, waiting


def test_full_queue(start):
    small = start("--slots", "1", "--queue", "1")
    client = client_of(small)
    long = {"model": small.model, **LONG_REPLY}
    with ThreadPoolExecutor() as threads:
        first, waits = one_running_one_waiting(small, client, threads, long)
        with pytest.raises(openai.RateLimitError) as error:
            client.completions.create(**long)
        assert error.value.code == "rate_limit_exceeded"
        assert error.value.response.headers["retry-after"] == "1"
        with pytest.raises(openai.RateLimitError):
            client.completions.create(**long, stream=True)
        # The client's own retries wait for as long as the server says.
        again = threads.submit(client_of(small, retries=5).completions.create, **{**long, "max_tokens": 2})
        time.sleep(0.2)
        first.close()
        assert waits.result().usage.completion_tokens == 2
        assert again.result().usage.completion_tokens == 2


def test_part_of_a_request_is_not_taken(start):
    """Several prompts of which one finds no place in the queue: refused at once, whole or streamed."""
    small = start("--slots", "1", "--queue", "2")
    client = client_of(small)
    long = {"model": small.model, **LONG_REPLY}
    with ThreadPoolExecutor() as threads:
        first, waits = one_running_one_waiting(small, client, threads, long)
        more = {**long, "prompt": ["One cold day", "Hello."], "max_tokens": 400}
        with pytest.raises(openai.RateLimitError):
            client.completions.create(**more)
        until_then = small.metric("requests_waiting"), small.metric("requests_running")
        first.close()
        waits.result()
        assert until_then[1] == 1, "it is refused at once"
        assert until_then[0] == 1, "the part that found a place has left the queue"
        again, waits = one_running_one_waiting(small, client, threads, long)
        with pytest.raises(openai.RateLimitError):
            client.completions.create(**more, stream=True)
        again.close()
        waits.result()


# Cancelling and many at once.


def test_a_cancelled_stream_frees_its_slot_within_two_steps(server, complete):
    until(lambda: server.metric("requests_running") == 0)
    stream = complete(**LONG_REPLY, stream=True)
    parts = iter(stream)
    for _ in range(5):
        next(parts)
    begun, before = time.monotonic(), server.metric("steps_total")
    time.sleep(0.2)
    asked, steps = time.monotonic(), server.metric("steps_total")
    stream.close()
    closed = time.monotonic()
    until(lambda: server.metric("requests_running") == 0)
    # Steps go on between the look at the counter and the end of the connection, and while the system tells of it.
    pace = (steps - before) / (asked - begun)
    assert server.metric("steps_total") - steps <= 2 + (closed - asked + 0.1) * pace
    assert server.metric("steps_total") < before + 1000


def test_a_cancelled_reply_that_waits_leaves_the_queue(start):
    small = start("--slots", "1", "--queue", "4")
    client = client_of(small)
    long = {"model": small.model, **LONG_REPLY}
    first = client.completions.create(**long, stream=True)
    until(lambda: small.metric("requests_running") == 1)
    with pytest.raises(openai.APITimeoutError):
        client.completions.create(**long, timeout=0.1)
    until(lambda: small.metric("requests_waiting") == 0)
    assert small.metric("requests_running") == 1
    first.close()


def test_concurrent_requests_have_the_texts_of_their_solo_runs(server):
    requests = [
        {
            "model": server.model,
            "messages": [SYSTEM, {"role": "user", "content": ["Tell me a story.", "Hello.", "Who are you?"][index % 3]}],
            "max_tokens": 8 + index * 7 % 30,
            "temperature": 1.2 if index % 2 else 0,
            "seed": index,
        }
        for index in range(8)
    ]

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0, timeout=120) as client:

            async def text(request):
                reply = await client.chat.completions.create(**request)
                return reply.choices[0].message.content, reply.choices[0].finish_reason, reply.usage.completion_tokens

            async def streamed(request):
                parts = [
                    chunk.choices[0].delta.content or ""
                    async for chunk in await client.chat.completions.create(**request, stream=True)
                ]
                return "".join(parts).rstrip()

            together = await asyncio.gather(*map(text, requests))
            streams = await asyncio.gather(*map(streamed, requests))
            alone = [await text(request) for request in requests]
            assert together == alone
            assert streams == [text.rstrip() for text, _, _ in alone]

    asyncio.run(run())
    until(lambda: server.metric("requests_running") == 0)


# Structured replies.

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "pet": {"enum": ["cat", "dog", None]},
        "happy": {"type": "boolean"},
    },
    "required": ["name", "age", "pet", "happy"],
    "additionalProperties": False,
}
TREE = {
    "type": "object",
    "properties": {"left": {"$ref": "#/$defs/leaf"}, "right": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]}},
    "required": ["left", "right"],
    "additionalProperties": False,
    "$defs": {
        "leaf": {
            "type": "object",
            "properties": {"kind": {"const": "leaf"}, "values": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
            "required": ["kind", "values"],
            "additionalProperties": False,
        }
    },
}
LIST = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {"type": "string", "enum": ['a "quoted" word', "naïve", "\\", "line\nbreak"]},
        }
    },
    "required": ["items"],
    "additionalProperties": False,
}
OPTIONAL = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"type": "string", "pattern": "^[a-c]{2,4}$"}},
    "required": ["c"],
    "additionalProperties": False,
}
SCHEMAS = {"person": PERSON, "tree": TREE, "list": LIST, "optional": OPTIONAL}


@pytest.mark.parametrize("name", SCHEMAS)
def test_replies_follow_a_json_schema(chat, name):
    """20 replies, 1,000 in the long tier, all valid."""
    form = {"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMAS[name], "strict": True}}
    count = (1000 if LONG else 20) // len(SCHEMAS)

    def ask(seed):
        return chat(messages=STORY, temperature=1.5, seed=seed, max_tokens=400, response_format=form)

    with ThreadPoolExecutor(8) as threads:
        for reply in threads.map(ask, range(count)):
            choice = reply.choices[0]
            assert choice.finish_reason == "stop", choice
            jsonschema.validate(json.loads(choice.message.content), SCHEMAS[name])


def test_a_streamed_reply_follows_a_json_schema(chat):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    whole = chat(max_tokens=400, response_format=form).choices[0].message.content
    chunks = chat(max_tokens=400, response_format=form, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    jsonschema.validate(json.loads(whole), PERSON)


def test_parsed_replies(client, server):
    """The client's `parse` makes the schema of a class."""
    import pydantic

    class Answer(pydantic.BaseModel):
        yes: bool
        colour: str = pydantic.Field(max_length=8)

    reply = client.chat.completions.parse(
        model=server.model, messages=HELLO, temperature=0, max_tokens=400, response_format=Answer
    )
    assert isinstance(reply.choices[0].message.parsed, Answer)


def test_replies_are_json_objects(chat):
    for seed in range(8):
        choice = chat(
            messages=STORY, temperature=1.2, seed=seed, max_tokens=200, response_format={"type": "json_object"}
        ).choices[0]
        text = choice.message.content
        # A reply that the length cuts is the beginning of an object.
        value = json.loads(text) if choice.finish_reason == "stop" else from_json(text, allow_partial=True)
        assert isinstance(value, dict), text


def test_a_form_does_not_change_other_requests(chat, server):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    with ThreadPoolExecutor(8) as threads:
        formed = [threads.submit(chat, max_tokens=400, response_format=form) for _ in range(4)]
        plain = [threads.submit(chat) for _ in range(4)]
    assert {reply.result().choices[0].message.content for reply in plain} == {HELLO_ANSWER}
    assert len({reply.result().choices[0].message.content for reply in formed}) == 1


def test_text_is_a_form_too(chat):
    assert chat(response_format={"type": "text"}).choices[0].message.content == HELLO_ANSWER


@pytest.mark.parametrize(
    "form",
    [
        {"type": "nonsense"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/nowhere"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}},
    ],
)
def test_forms_that_cannot_be_followed_are_refused(chat, form):
    with pytest.raises(openai.BadRequestError) as error:
        chat(response_format=form)
    assert error.value.param == "response_format"


def test_structured_outputs(chat):
    def text(**form):
        choice = chat(max_tokens=400, extra_body={"structured_outputs": form}).choices[0]
        assert choice.finish_reason == "stop"
        return choice.message.content

    assert text(choice=["red", "green", "blue"]) in ("red", "green", "blue")
    assert len(text(regex="[0-9]{3}-[0-9]{2}")) == 6
    jsonschema.validate(json.loads(text(json=PERSON)), PERSON)
    with pytest.raises(openai.BadRequestError):
        text(regex="(")


# Tools.

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {name: {"type": "integer", "minimum": 0, "maximum": 99} for name in "ab"},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
TOOLS = {tool["function"]["name"]: tool for tool in (WEATHER, ADD)}


def check_call(call):
    assert call.type == "function" and call.id
    jsonschema.validate(json.loads(call.function.arguments), TOOLS[call.function.name]["function"]["parameters"])


def test_a_required_tool_is_called_and_its_result_answered(chat):
    messages = [SYSTEM, {"role": "user", "content": "What is the weather in Rome?"}]
    choice = chat(messages=messages, tools=[WEATHER], tool_choice="required", max_tokens=400).choices[0]
    assert choice.finish_reason == "tool_calls" and not choice.message.content
    calls = choice.message.tool_calls
    assert calls and {call.function.name for call in calls} == {"get_weather"}
    for call in calls:
        check_call(call)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "Sunny."} for call in calls]
    asked = choice.message.model_dump(exclude_none=True)
    for message in (asked, {**asked, "content": None}):
        answer = chat(messages=[*messages, message, *results], tools=[WEATHER], max_tokens=20).choices[0]
        assert answer.message.tool_calls is None and answer.message.content


def test_a_named_function_is_called(chat):
    for name in TOOLS:
        named = {"type": "function", "function": {"name": name}}
        for seed in range(4):
            choice = chat(tools=[*TOOLS.values()], tool_choice=named, temperature=1.2, seed=seed, max_tokens=400).choices[0]
            # OpenAI's reason for a named function is `stop`.
            assert choice.finish_reason in ("tool_calls", "stop")
            (call,) = choice.message.tool_calls
            assert call.function.name == name
            check_call(call)


def test_streamed_calls(chat):
    request = {"tools": [*TOOLS.values()], "tool_choice": "required", "max_tokens": 400}
    whole = chat(**request).choices[0].message.tool_calls
    calls: dict[int, list[str]] = {}
    ids = set()
    for chunk in chat(**request, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(delta.index, ["", ""])
            ids.update([delta.id] if delta.id else [])
            call[0] += delta.function.name or ""
            call[1] += delta.function.arguments or ""
        last = chunk
    assert [[call.function.name, call.function.arguments] for call in whole] == [calls[index] for index in sorted(calls)]
    assert len(ids) == len(calls) and last.choices[0].finish_reason == "tool_calls"


def test_one_call_without_parallel_calls(chat):
    request = {"tools": [*TOOLS.values()], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 400}
    for seed in range(8):
        (call,) = chat(**request, temperature=1.2, seed=seed).choices[0].message.tool_calls
        check_call(call)


def test_tools_without_a_call(chat):
    assert chat(tools=[WEATHER], tool_choice="none").choices[0].message.content == HELLO_ANSWER
    assert chat(tools=[WEATHER]).choices[0].message.content == HELLO_ANSWER, "a template without tools"


@pytest.mark.parametrize(
    "choice",
    [{"type": "function", "function": {"name": "unknown"}}, "sometimes", 5, True, ["auto"], {}],
    ids=json.dumps,
)
def test_wrong_choices_of_tools_are_refused(chat, choice):
    with pytest.raises(openai.BadRequestError) as error:
        chat(tools=[WEATHER], tool_choice=choice)
    assert error.value.param == "tool_choice"


def test_a_required_tool_needs_tools(chat):
    for tools in ({}, {"tools": []}):
        with pytest.raises(openai.BadRequestError):
            chat(**tools, tool_choice="required")


# Biases.


def test_a_banned_token_never_comes(server, complete):
    greedy = complete(logprobs=0).choices[0]
    first = greedy.logprobs.tokens[0]
    token = token_of(server, first)
    banned = complete(logprobs=0, logit_bias={str(token): -100}).choices[0]
    assert banned.text != greedy.text and first not in banned.logprobs.tokens
    drawn = complete(logprobs=0, logit_bias={str(token): -100}, temperature=1.5, seed=1, max_tokens=200)
    assert first not in drawn.choices[0].logprobs.tokens
    assert complete().choices[0].text == greedy.text, "the next request has no bias"


def test_a_forced_token_always_comes(server, complete, chat):
    token = token_of(server, " friends")
    forced = complete(logit_bias={str(token): 100}, max_tokens=5)
    assert forced.choices[0].text == " friends" * 5
    assert forced.choices[0].finish_reason == "length"
    reply = chat(logit_bias={str(token): 100}, max_tokens=5).choices[0]
    assert reply.message.content.strip() == (" friends" * 5).strip()
    text = complete().choices[0].text
    assert complete(logit_bias={}).choices[0].text == complete(logit_bias={str(token): 0}).choices[0].text == text


@pytest.mark.parametrize("bias", [{"5": 101}, {"5": -101}, {"x": 1}, {"-1": 1}, {"1023": 1}, {"5": "a"}, [5]], ids=json.dumps)
def test_wrong_biases_are_refused(complete, bias):
    with pytest.raises(openai.BadRequestError) as error:
        complete(logit_bias=bias)
    assert error.value.param == "logit_bias"


def token_of(server: Server, text: str) -> int:
    """Id of a token within a text."""
    _, before = server.post("/tokenize", {"prompt": "One cold day"})
    _, after = server.post("/tokenize", {"prompt": "One cold day" + text})
    assert after["tokens"][:-1] == before["tokens"], text
    return after["tokens"][-1]
