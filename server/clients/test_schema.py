"""Schemathesis: requests made from `server/openapi.json`, and answers checked against it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import schemathesis
from conftest import LONG, Server
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

FILE = Path(__file__).resolve().parents[1] / "openapi.json"
DOCUMENT = json.loads(FILE.read_text())
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MOST_TOKENS = 4

schema = schemathesis.openapi.from_path(FILE)


@pytest.fixture(scope="module")
def limited() -> Server:
    """A server whose requests are small."""
    one = Server("--slots", "4", "--queue", "64", "--body-limit", "64KiB")
    yield one
    one.stop()


@schema.parametrize()
@settings(
    deadline=None,
    derandomize=True,
    max_examples=400 if LONG else 12,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_those_of_the_description(case, limited):
    if isinstance(case.body, dict):
        shorten(case.body)
    case.call_and_validate(base_url=limited.address, checks=CHECKS, timeout=30)


def shorten(body: dict) -> None:
    """Lowers the number of tokens of a reply. Values that are no number stay."""
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if (value is None and "tokens" not in body) or (type(value) is int and value > MOST_TOKENS):
            body[name] = MOST_TOKENS


@pytest.mark.parametrize(
    ("path", "body", "chunk"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello."}]}, "ChatChunk"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "Hello."}], "logprobs": True, "top_logprobs": 2, "n": 2},
            "ChatChunk",
        ),
        ("/v1/completions", {"prompt": "One cold day"}, "CompletionChunk"),
        ("/v1/completions", {"prompt": ["One cold day", "Hello."], "logprobs": 2}, "CompletionChunk"),
    ],
)
def test_streams_are_those_of_the_description(limited, path, body, chunk):
    more = {"max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}
    status, headers, data = limited.request(path, {**body, **more})
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    *events, done = [event.removeprefix("data: ") for event in data.decode().split("\n\n") if event]
    assert done == "[DONE]" and len(events) > 8
    validate = validator(chunk)
    for event in events:
        validate(json.loads(event))
    assert json.loads(events[-1])["usage"]["completion_tokens"] >= 8


def test_the_routes_are_those_of_the_description(limited):
    """Every path answers its methods, and no other."""
    for path, methods in DOCUMENT["paths"].items():
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            body = b"{" if method == "POST" else None
            status, _, data = limited.request(path.replace("{model}", "demo"), body, method=method)
            assert (status == 405) == (method.lower() not in methods), (method, path, status)
            if status >= 400:
                validator("Error")(json.loads(data))


def validator(name: str):
    """Checks values against a schema of the file."""
    reference = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(reference).validate
