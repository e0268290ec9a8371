"""`/slots`: what slots are at, and their texts saved, restored and erased; token ids of replies."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Server, until

CHAT = "/v1/chat/completions"
STORY = [{"role": "user", "content": "Tell me a story about a dog named Ben, who saw a goat. What animal did Ben see?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("slots") / "saved"


@pytest.fixture(scope="module")
def server(folder) -> Iterator[Server]:
    one = Server("--slots", "2", "--slot-save-path", str(folder))
    yield one
    one.stop()


def ask(server: Server, messages: list, **more) -> dict:
    status, reply = server.post(CHAT, {"messages": messages, "max_tokens": 12, "temperature": 0, **more})
    assert status == 200, reply
    return reply


def slots(server: Server) -> list[dict]:
    status, _, data = server.request("/slots")
    assert status == 200
    return json.loads(data)


def act(server: Server, slot: int, action: str, body: object = None) -> tuple[int, dict]:
    return server.post(f"/slots/{slot}?action={action}", body or {})


def cached(reply: dict) -> int:
    return reply["usage"]["prompt_tokens_details"]["cached_tokens"]


def read_last(server: Server, prompt: int) -> int:
    """A slot that has read a prompt of so many tokens and its reply."""
    return next(slot["id"] for slot in slots(server) if slot["n_prompt_tokens"] > prompt)


def test_a_saved_conversation_goes_on_in_another_server(server, folder):
    reply = ask(server, STORY)
    slot = read_last(server, reply["usage"]["prompt_tokens"])
    status, saved = act(server, slot, "save", {"filename": "ben.state"})
    assert status == 200, saved
    assert saved["id_slot"] == slot and saved["timings"]["save_ms"] > 0
    assert saved["n_written"] == (folder / "ben.state").stat().st_size
    assert saved["n_saved"] == next(s for s in slots(server) if s["id"] == slot)["n_prompt_tokens"]
    again = [*STORY, reply["choices"][0]["message"], {"role": "user", "content": "And then?"}]
    wanted = ask(server, again)

    other = Server("--slots", "2", "--slot-save-path", str(folder))
    try:
        status, restored = act(other, 1, "restore", {"filename": "ben.state"})
        assert status == 200, restored
        assert restored["n_restored"] == saved["n_saved"] and restored["n_read"] == saved["n_written"]
        assert slots(other)[1]["n_prompt_tokens"] == saved["n_saved"]
        got = ask(other, again)
        assert cached(got) >= saved["n_saved"] - 1 and cached(got) == cached(wanted)
        assert got["choices"][0]["message"] == wanted["choices"][0]["message"]
    finally:
        other.stop()


def test_what_is_erased_is_read_again():
    one = Server("--slots", "1")
    try:
        system = {"role": "system", "content": "You tell stories about animals, and answer questions about them."}
        other, story = [system, {"role": "user", "content": "Hello."}], [system, *STORY]
        first = cached(ask(one, other))
        reply = ask(one, story)
        known = cached(ask(one, story))
        assert known > cached(reply) > first == 0
        (slot,) = slots(one)
        status, done = act(one, 0, "erase")
        assert status == 200 and 0 < done["n_erased"] <= slot["n_prompt_tokens"]
        # What another conversation has of it stays.
        assert slots(one)[0]["n_prompt_tokens"] == slot["n_prompt_tokens"] - done["n_erased"] > 0
        assert act(one, 0, "erase") == (200, {"id_slot": 0, "n_erased": 0})
        assert cached(ask(one, story)) == cached(reply)
        assert cached(ask(one, other)) > 0
        one.post("/v1/embeddings", {"input": "a"})
        assert slots(one)[0]["n_prompt_tokens"] > 0, "an embedding leaves a slot as it was"
    finally:
        one.stop()


def test_a_slot_at_work_is_left_alone(server):
    reply = ask(server, STORY)
    slot = read_last(server, reply["usage"]["prompt_tokens"])
    assert act(server, slot, "save", {"filename": "work.state"})[0] == 200
    body = json.dumps({"prompt": "One cold day", "max_tokens": 1500, "temperature": 0, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((server.host, server.port), 30) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(1)
        (slot,) = [slot["id"] for slot in slots(server) if slot["is_processing"]]
        for action in ("save", "restore", "erase"):
            status, reply = act(server, slot, action, {"filename": "work.state"})
            assert status == 409 and "at work" in reply["error"]["message"], reply
    until(lambda: not any(slot["is_processing"] for slot in slots(server)))


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "/etc/passwd", "a/b", "a\\b", ".hidden", "ü", "a b", "x" * 129, "a\0b"])
@pytest.mark.parametrize("action", ["save", "restore"])
def test_names_that_are_paths_are_refused(server, folder, action, name):
    status, reply = act(server, 0, action, {"filename": name})
    assert status == 400 and reply["error"]["param"] == "filename", reply
    assert all(path.parent == folder for path in folder.rglob("*"))


def test_wrong_requests_have_errors(server, folder):
    (folder / "broken.state").write_bytes(b"\xff" * 100)
    (folder / "folder").mkdir()
    (folder / "config.json").write_text("{}")
    ask(server, STORY)
    slot = read_last(server, 0)
    assert act(server, slot, "save", {"filename": "linked.state"})[0] == 200
    (folder / "link.state").symlink_to(folder / "linked.state")
    for path, body, status in [
        ("/slots/0", {}, 400),
        ("/slots/0?action=copy", {}, 400),
        ("/slots/7?action=erase", {}, 400),
        ("/slots/-1?action=erase", {}, 400),
        ("/slots/a?action=erase", {}, 400),
        ("/slots/0?action=erase&model=none", {}, 404),
        ("/slots/0?action=restore", {}, 400),
        ("/slots/0?action=restore", {"filename": 5}, 400),
        ("/slots/0?action=restore", {"filename": "nothing.state"}, 404),
        ("/slots/0?action=restore", {"filename": "broken.state"}, 400),
        ("/slots/0?action=restore", {"filename": "folder"}, 400),
        ("/slots/0?action=restore", {"filename": "link.state"}, 400),
        (f"/slots/{slot}?action=save", {"filename": "link.state"}, 400),
        (f"/slots/{slot}?action=save", {"filename": "broken.state"}, 400),
        (f"/slots/{slot}?action=save", {"filename": "config.json"}, 400),
        ("/slots/0?action=save", b"{", 400),
    ]:
        got, reply = server.post(path, body)
        assert got == status, (path, body, reply)
        assert str(folder) not in reply["error"]["message"]
    assert (folder / "config.json").read_text() == "{}"
    assert act(server, slot, "save", {"filename": "linked.state"})[0] == 200, "a state may be saved anew"
    assert server.request("/slots", b"", method="DELETE")[0] == 405
    assert server.request("/slots?model=none")[0] == 404


def test_without_a_folder_nothing_is_saved():
    one = Server("--slots", "1")
    try:
        ask(one, STORY)
        for action in ("save", "restore"):
            status, reply = act(one, 0, action, {"filename": "a"})
            assert status == 400 and "--slot-save-path" in reply["error"]["message"]
        status, done = act(one, 0, "erase")
        assert status == 200 and done["n_erased"] > 0
    finally:
        one.stop()


def events(server: Server, path: str, body: dict) -> list[dict]:
    data = server.request(path, {**body, "stream": True})[2].decode()
    lines = [event.removeprefix("data: ") for event in data.split("\n\n") if event]
    return [json.loads(line) for line in lines[:-1]]


def test_token_ids_are_those_of_prompt_and_reply(server):
    """In vLLM's fields, whole and as a stream; a reply that is told by its ids goes on by them."""
    body = {"messages": STORY, "max_tokens": 12, "temperature": 0, "return_token_ids": True}
    _, rendered = server.post(CHAT + "/render", {"messages": STORY})
    _, whole = server.post(CHAT, body)
    assert whole["prompt_token_ids"] == rendered["token_ids"]
    ids = whole["choices"][0]["token_ids"]
    assert len(ids) == whole["usage"]["completion_tokens"]
    chunks = events(server, CHAT, body)
    assert [chunk["prompt_token_ids"] for chunk in chunks if "prompt_token_ids" in chunk] == [rendered["token_ids"]]
    assert sum((chunk["choices"][0].get("token_ids", []) for chunk in chunks), []) == ids

    body = {"prompt": rendered["token_ids"], "max_tokens": 12, "temperature": 0, "return_token_ids": True}
    _, text = server.post("/v1/completions", body)
    (choice,) = text["choices"]
    assert choice["prompt_token_ids"] == rendered["token_ids"] and choice["token_ids"] == ids
    chunks = [chunk["choices"][0] for chunk in events(server, "/v1/completions", body)]
    assert chunks[0]["prompt_token_ids"] == rendered["token_ids"]
    assert sum((chunk.get("token_ids", []) for chunk in chunks), []) == ids
    assert "token_ids" not in json.dumps(ask(server, STORY))
    two = server.post(CHAT, {**body, "messages": STORY, "n": 2, "temperature": 1.5, "seed": 1})[1]
    assert all(len(choice["token_ids"]) > 0 for choice in two["choices"])


def test_a_client_that_does_not_read_is_left():
    """Answers that nobody takes fill the connection; then the server closes it, and others are served."""
    one = Server("--slots", "1", "--client-timeout", "1")
    try:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((one.host, one.port))
            connection.settimeout(30)
            request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
            with pytest.raises(OSError):
                until = time.monotonic() + 30
                while time.monotonic() < until:
                    connection.sendall(request)
        assert one.request("/health")[0] == 200
        with socket.create_connection((one.host, one.port)) as connection:
            connection.settimeout(30)
            head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(head + b"{")
            assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]
    finally:
        one.stop()
