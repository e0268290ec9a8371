"""Several models of one server: loaded when they are asked for, and given up within a budget of bytes."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import reward_model
from conftest import BINARY, ROOT, Server, until

DEMO = str(ROOT / "assets/demo")
TEXT = {"prompt": "One cold day", "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return reward_model.make(tmp_path_factory.mktemp("models") / "reward", ["good"])


@pytest.fixture(scope="module")
def bytes_of_demo() -> int:
    """Weights, slot and workspace of the demo model."""
    one = Server("--slots", "1")
    try:
        bytes_there = one.metric("weight_bytes") + one.metric("state_bytes")
    finally:
        one.stop()
    command = [BINARY, "serve", DEMO, "--device", "cpu", "--port", "0", "--slots", "1", "--model-memory", "1000"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60).stderr
    return bytes_there + int(re.search(r"(\d+) for work", refused)[1])


def loaded(server: Server) -> list[str]:
    answer = json.loads(server.request("/v1/models")[2])
    return [one["id"] for one in answer["data"] if one["loaded"]]


def loads_of(server: Server, model: str) -> int:
    """Loads that the log tells, which comes behind the answers: at least one."""
    loads = lambda: sum(f"loading {model}" in line for line in server.log)
    until(lambda: loads() > 0)
    return loads()


def text_of(server: Server, model: str | None) -> str:
    status, answer = server.post("/v1/completions", {**TEXT, **({"model": model} if model else {})})
    assert status == 200, answer
    assert answer["model"] == (model or "demo")
    return answer["choices"][0]["text"]


def test_a_model_is_loaded_once_when_it_is_asked_for(start: Callable[..., Server], folder):
    server = start("--slots", "1", "--model", f"reward={folder}", "--model", f"again={DEMO}", "--model", "broken=/dev/null")
    data = json.loads(server.request("/v1/models")[2])["data"]
    assert [one["id"] for one in data] == ["demo", "reward", "again", "broken"]
    assert [one["slots"] for one in data] == [1, None, None, None] and loaded(server) == ["demo"]
    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(lambda _: text_of(server, "again"), range(6)))
    assert set(texts) == {text_of(server, None)}
    assert loads_of(server, "again") == 1
    conversation = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}]
    status, answer = server.post("/v1/chat/completions", {"model": "reward", "messages": conversation})
    assert status == 200 and answer["choices"][0]["logprobs"]["content"][0]["token"] == "good"
    assert loaded(server) == ["demo", "reward", "again"]
    assert len(server.post("/v1/embeddings", {"model": "again", "input": "a"})[1]["data"]) == 1
    assert server.post("/tokenize", {"model": "reward", "prompt": "a"})[1]["count"] > 0
    metrics = server.request("/metrics")[2].decode()
    assert {"demo", "reward", "again"} == set(re.findall(r'^selvedge_requests_total\{model="(\w+)"\}', metrics, re.MULTILINE))
    # What is not there, and what cannot be loaded; the others go on.
    status, answer = server.post("/v1/completions", {**TEXT, "model": "other"})
    assert status == 404 and "`demo`, `reward`, `again`, `broken` are" in answer["error"]["message"]
    status, answer = server.post("/v1/completions", {**TEXT, "model": "broken"})
    assert status == 500 and "`broken` cannot be loaded" in answer["error"]["message"]
    until(lambda: any("broken cannot be loaded: " in line for line in server.log))
    assert text_of(server, "demo") == texts[0]


def test_what_does_not_fit_takes_the_place_of_what_nobody_uses(start, bytes_of_demo):
    budget = str(bytes_of_demo + bytes_of_demo // 2)
    server = start("--slots", "1", "--model", f"again={DEMO}", "--model-memory", budget)
    first = text_of(server, None)
    assert text_of(server, "again") == first and loaded(server) == ["again"]
    assert text_of(server, "demo") == first and loaded(server) == ["demo"]
    # One that is in use stays, and whoever asks for another is told to come again.
    body = json.dumps({**TEXT, "max_tokens": 1500, "stream": True}).encode()
    request = urllib.request.Request(server.address + "/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as stream:
        assert stream.readline().startswith(b"data:")
        status, headers, data = server.request("/v1/completions", {**TEXT, "model": "again"})
        assert status == 503 and headers["retry-after"], data
        assert "the models in use leave no room" in json.loads(data)["error"]["message"]
    until(lambda: server.post("/v1/completions", {**TEXT, "model": "again"})[0] == 200)
    assert loaded(server) == ["again"]


def test_a_model_is_the_same_whatever_is_beside_it(start, bytes_of_demo):
    """Less memory than a second model needs gives up the first, and makes none coarser."""
    first = None
    for times in (1.05, 1.5, 1.95, 2.05):
        server = start("--slots", "1", "--model", f"again={DEMO}", "--model-memory", str(int(bytes_of_demo * times)))
        text = text_of(server, None)
        first = first or text
        assert (text, text_of(server, "again")) == (first, first), times
        assert len(loaded(server)) == (1 if times < 2 else 2)
        server.stop()


def test_a_model_that_never_fits_leaves_the_others(start, tmp_path):
    large = reward_model.make(tmp_path / "large", ["good"], width=60_000)
    options = ["--slots", "1", "--weights", "f32", "--context", "1024", "--model-memory", "40MB"]
    server = start(*options, "--model", f"again={DEMO}", "--model", f"large={large}")
    assert text_of(server, "again")
    status, answer = server.post("/v1/completions", {**TEXT, "model": "large"})
    assert status == 500 and "all models together may have 40000000" in answer["error"]["message"], answer
    assert loaded(server) == ["demo", "again"]


def test_whoever_leaves_while_a_model_is_loaded_starts_no_other_load(start):
    server = start("--slots", "1", "--model", f"again={DEMO}")

    def leave(_: int) -> None:
        with contextlib.suppress(OSError):
            server.request("/v1/completions", {**TEXT, "model": "again"}, timeout=0.01)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave, range(8)))
    until(lambda: loaded(server) == ["demo", "again"])
    assert loads_of(server, "again") == 1
    assert text_of(server, "again")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--model", "other"], "NAME=FOLDER"),
        (["--model", "=x"], "NAME=FOLDER"),
        (["--model", f"demo={DEMO}"], "two models have the name demo"),
        (["--model-memory", "1000"], "1000 may be taken"),
    ],
)
def test_wrong_options_are_told(options, why):
    done = subprocess.run([BINARY, "serve", DEMO, "--device", "cpu", "--port", "0", *options], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and why in done.stderr, done.stderr
