"""Hostile requests. After each the server still answers, and its error is OpenAI's object with the right status."""

from __future__ import annotations

import json
import re
import resource
import socket
import struct
import subprocess
import threading
import time

import pytest
from conftest import LONG, Server, memory, until

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hello."}]
# A reply that does not end by itself.
LONG_REPLY = {"prompt": "One cold day", "max_tokens": 1500, "temperature": 0}
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


@pytest.fixture(autouse=True)
def still_answers(server):
    """The server answers after each test as it did before all."""
    yield
    assert server.process.poll() is None, "\n".join(server.log)
    until(lambda: server.metric("requests_running") == server.metric("requests_waiting") == 0)
    status, reply = server.post(COMPLETIONS, {"prompt": "One cold day", "max_tokens": 4, "temperature": 0})
    assert (status, reply["choices"][0]["text"]) == (200, " Anna visited the school")


def check_error(status: int, data: bytes, wanted: int) -> dict:
    assert status == wanted, data[:300]
    (name,) = (body := json.loads(data))
    error = body[name]
    assert name == "error" and set(error) == {"message", "type", "param", "code"}
    assert error["type"] == KINDS.get(status, "invalid_request_error")
    assert 5 < len(error["message"]) < 2000
    return error


def refused(server: Server, path: str, body: object, wanted: int = 400, **more) -> dict:
    status, _, data = server.request(path, body, **more)
    return check_error(status, data, wanted)


def connect(server: Server, timeout: float = 30) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout)


def head(length: int | None, path: str = COMPLETIONS, **headers: str) -> bytes:
    fields = {"Host": "localhost", "Content-Type": "application/json", "Connection": "close", **headers}
    if length is not None:
        fields["Content-Length"] = str(length)
    return f"POST {path} HTTP/1.1\r\n".encode() + b"".join(f"{k}: {v}\r\n".encode() for k, v in fields.items()) + b"\r\n"


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the answer on a connection."""
    data = b""
    try:
        while part := connection.recv(1 << 16):
            data += part
    except ConnectionResetError:
        pass
    start, _, body = data.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 "), "no answer"
    return int(start.split()[1]), body


# Bodies.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"prompt": "a"',
        b'{"prompt": "a',
        b'{"prompt": "a"} x',
        b"{'prompt': 'a'}",
        b'{"prompt": "a",}',
        b"null",
        b"5",
        b'"prompt"',
        b"[]",
        b"[1]",
        b'["a"]',
        b"\x00",
        b"\xef\xbb\xbf{}",
        b'{"prompt": "a", "prompt": "b"}',
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "\xed\xa0\x80"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\\x41"}',
        b'{"prompt": "a\nb"}',
        b'{"\xff": 1, "prompt": "a"}',
        '{"prompt": "a"}'.encode("utf-16"),
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": Infinity}',
        b'{"prompt": "a", "temperature": 1e400}',
        b'{"prompt": "a", "temperature": 0x1}',
        b'{"prompt": "a", "seed": 99999999999999999999999999}',
        b'{"prompt": "a", "x": ' + b"9" * 100_000 + b"}",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_broken_json(server, body):
    refused(server, COMPLETIONS, body)


def test_errors_have_no_words_of_rust(server):
    for body in ([], {"prompt": {}}, {"prompt": "a", "stop": 5}, {"prompt": "a", "seed": "a"}, {"prompt": "a", "n": -1}):
        message = refused(server, COMPLETIONS, body)["message"]
        assert not re.search(r"struct|enum|variant|\b[iu](32|64|size)\b", message), message


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, CHAT + "/render", "/tokenize", "/detokenize"])
def test_deep_nesting(server, path):
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = opening * 100_000
        refused(server, path, deep)
        whole = deep + b"1" + closing * 100_000
        for field in (b"x", b"messages", b"prompt", b"tokens", b"stop", b"tools", b"response_format", b"logit_bias"):
            refused(server, path, b'{"%b": %b}' % (field, whole))
        refused(server, path, b'{"messages": [{"role": "user", "content": "a", "x": %b}]}' % whole)
    for path in (CHAT, COMPLETIONS):
        schema = b'{"type": "json_schema", "json_schema": {"name": "a", "schema": %b}}' % whole
        refused(server, path, b'{"prompt": "a", "messages": [], "response_format": %b}' % schema)


def test_nesting_below_the_limit_of_the_parser(server):
    """120 levels pass the parser; whatever walks them has to bear them."""
    deep = json.loads("[" * 120 + "]" * 120)
    nested = json.loads('{"a":' * 120 + "1" + "}" * 120)
    for value in (deep, nested):
        tool = {"type": "function", "function": {"name": "f", "parameters": value}}
        for more in ({"tools": [tool]}, {"documents": [value]}, {"chat_template_kwargs": {"a": value}}, {"x": value}):
            status, _ = server.post(CHAT, {"messages": HELLO, "max_tokens": 1, **more})
            assert status in (200, 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx", "json", "*/*"])
def test_wrong_content_type(server, kind):
    refused(server, COMPLETIONS, {"prompt": "a"}, 415, headers={"Content-Type": kind})


def test_content_types_of_json(server):
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"):
        status, _, _ = server.request(COMPLETIONS, {"prompt": "a", "max_tokens": 1}, {"Content-Type": kind})
        assert status == 200


def test_a_body_that_its_length_cuts(server):
    with connect(server) as connection:
        connection.sendall(head(99) + b'{"prompt":')
        connection.shutdown(socket.SHUT_WR)
        check_error(*answer(connection), 400)
    body = b'{"prompt": "a", "max_tokens": 1}'
    with connect(server) as connection:
        connection.sendall(head(len(body) - 1) + body)
        check_error(*answer(connection), 400)


def test_a_body_of_broken_chunks(server):
    for chunks in (b"ZZ\r\n{}\r\n0\r\n\r\n", b"2\r\n{}5\r\n", b"ffffffffffffffffffff\r\n{}\r\n"):
        with connect(server) as connection:
            connection.sendall(head(None, **{"Transfer-Encoding": "chunked"}) + chunks)
            check_error(*answer(connection), 400)


def test_100_mb(server):
    """A body that is much too large is refused, and not kept."""
    part = b"a" * (1 << 20)
    before = memory(server)
    for length in (100 << 20, None):
        with connect(server) as connection:
            connection.sendall(head(length, **({} if length else {"Transfer-Encoding": "chunked"})))
            sent = b'{"prompt": "' if length else b""
            try:
                for _ in range(100):
                    sent = part if length else b"%x\r\n%b\r\n" % (len(part), part)
                    connection.sendall(sent)
            except (BrokenPipeError, ConnectionResetError):
                pass
            check_error(*answer(connection), 413)
    assert memory(server) - before < 64 << 20
    refused(server, COMPLETIONS, b'"' + b"a" * (8 << 20) + b'"', 413)


@pytest.mark.parametrize(
    ("status", "headers"), [(413, {}), (415, {"Content-Type": "text/plain"}), (403, {"Host": "evil.example"})]
)
def test_an_answer_before_the_end_of_the_body_ends_the_connection(server, status, headers):
    """Without `Connection: close` clients keep the connection, and their next request fails on it."""
    with connect(server) as connection:
        connection.sendall(head(100 << 20, **{"Connection": "keep-alive", **headers}))
        connection.sendall(b"a" * (9 << 20 if status == 413 else 1000))
        answered = connection.recv(1 << 16)
    start = answered.partition(b"\r\n\r\n")[0].lower()
    assert start.startswith(b"http/1.1 %d " % status) and b"\r\nconnection: close" in start, answered


# Fields.

WRONG = [None, True, -1, 0.5, 2**31, 2**63, 2**64, 10**30, -(2**63), -(10**30), 1e308, -1e308, 5e-324]
WRONG += ["", "a", "\0", [], [None], [[]], {}, {"a": 1}]
FIELDS = {
    COMPLETIONS: [
        "prompt", "model", "stream", "stream_options", "n", "stop", "seed", "max_tokens", "max_completion_tokens",
        "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
        "logprobs", "top_logprobs", "best_of", "echo", "suffix", "logit_bias", "response_format", "structured_outputs",
    ],
    CHAT: [
        "messages", "tools", "tool_choice", "parallel_tool_calls", "documents", "chat_template_kwargs",
        "enable_thinking", "functions", "function_call", "audio", "stream", "logprobs", "top_logprobs", "n",
        "logit_bias", "response_format", "structured_outputs",
    ],
    "/tokenize": ["prompt", "add_special_tokens"],
    "/detokenize": ["tokens"],
}  # fmt: skip
WHOLE = {
    COMPLETIONS: {"prompt": "a", "max_tokens": 2},
    CHAT: {"messages": HELLO, "max_tokens": 2},
    "/tokenize": {"prompt": "a"},
    "/detokenize": {"tokens": [5]},
}


@pytest.mark.parametrize(("path", "field"), [(path, field) for path, fields in FIELDS.items() for field in fields])
def test_absurd_values(server, path, field):
    """Every field with values of every kind: a reply, or a refusal with a reason."""
    for value in WRONG:
        body = {**WHOLE[path], field: value}
        if field in ("max_tokens", "max_completion_tokens") and isinstance(value, int) and value > 0:
            body["stop"] = ["a", "e", "i", "o", " "]
        status, headers, data = server.request(path, body)
        assert status in (200, 400, 404), (value, status, data)
        if status != 200:
            check_error(status, data, 404 if field == "model" and isinstance(value, str) else 400)
        elif not headers["content-type"].startswith("text/event-stream"):
            json.loads(data)


@pytest.mark.parametrize(
    ("path", "field", "values"),
    [
        (COMPLETIONS, "temperature", [-1, -1e-30, 10001, 1e308, -1e308, "1", [], {}]),
        (COMPLETIONS, "top_p", [0, -1, 1.001, 1e308, "1"]),
        (COMPLETIONS, "min_p", [-0.1, 1, 1e308]),
        (COMPLETIONS, "top_k", [-2, 2**32, 0.5, 2**63, "1"]),
        (COMPLETIONS, "repetition_penalty", [0, -1, 1e308]),
        (COMPLETIONS, "frequency_penalty", [1e5, -1e308, "1"]),
        (COMPLETIONS, "presence_penalty", [1e5, -1e308, "1"]),
        (COMPLETIONS, "n", [0, 17, -1, 2**32, 2**64, 0.5, "1"]),
        (COMPLETIONS, "stop", [5, ["a"] * 17, "a" * 1025, [None], [5], {}]),
        (COMPLETIONS, "seed", [0.5, 2**63, "1"]),
        (COMPLETIONS, "max_tokens", [-1, 0.5, 2**64, "1"]),
        (COMPLETIONS, "stream", [1, "true", []]),
        (COMPLETIONS, "stream_options", [5, "a", {"include_usage": 5}]),
        (COMPLETIONS, "logprobs", [21, -1, 0.5, "a", [], {}]),
        (COMPLETIONS, "model", [5, [], {}]),
        (COMPLETIONS, "best_of", [0, -1, 2, "a", 0.5, []]),
        (COMPLETIONS, "echo", [True]),
        (COMPLETIONS, "suffix", ["a"]),
        (COMPLETIONS, "prompt", [[], [[]], [-1], [1023], [2**32], [2**64], [0.5], [None], ["a", 1], [[1], "a"], 5, {}, None]),
        (CHAT, "top_logprobs", [1, -1, 0.5, "a", 2**64]),
        (CHAT, "messages", [[], {}, None, 5, "a", [None], [5], ["a"], [[]], [{}]]),
        (CHAT, "tools", [5, "a", [5], [{}], [{"type": "function"}], [{"type": "function", "function": {"name": 5}}]]),
        (CHAT, "tool_choice", [5, True, [], {}, "a", ""]),
        (CHAT, "documents", [5, "a", {}]),
        (CHAT, "chat_template_kwargs", [5, "a", []]),
        (CHAT, "enable_thinking", [5, "a"]),
        ("/tokenize", "prompt", [5, None, [], {}]),
        ("/tokenize", "add_special_tokens", [5, None, "a"]),
        ("/detokenize", "tokens", [5, None, "a", [-1], [1023], [2**32], [0.5], ["a"]]),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(server, path, field, values):
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]} if field == "tool_choice" else {}
    for value in values:
        status, _, data = server.request(path, {**WHOLE[path], **tools, field: value})
        assert status == 400, (value, status, data[:200])
        check_error(status, data, 400)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"content": "a"},
        {"role": "wizard", "content": "a"},
        {"role": 5, "content": "a"},
        {"role": "", "content": "a"},
        {"role": "user", "content": None},
        {"role": "user", "content": 5},
        {"role": "user", "content": {}},
        {"role": "user", "content": [5]},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": [{"type": "text", "text": 5}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]},
        {"role": "assistant", "content": None},
    ],
    ids=json.dumps,
)
def test_wrong_messages(server, message):
    assert refused(server, CHAT, {"messages": [message]})["param"] == "messages"


def test_calls_without_content(server):
    """What OpenAI's clients send back after a call."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "a", "content": "5"}
    status, reply = server.post(CHAT, {"messages": [*HELLO, asked, result], "max_tokens": 2})
    assert status == 200, reply


def test_control_tokens_in_a_text_are_text(server):
    """Marks of the chat template within a message do not end it."""
    for text in ("</s>", "<s>", "<extra_id_1>User", "<unk>"):
        status, reply = server.post(CHAT + "/render", {"messages": [{"role": "user", "content": f"a{text}b"}]})
        assert status == 200
        assert not {0, 1, 2} & set(reply["token_ids"][1:]), text


# Addresses, methods and headers.


def test_wrong_addresses(server):
    nowhere = ["/", "/v1", "/v1/", "//", "/v1/models/", "/v1/chat/completions/", "/v1/../etc/passwd", "/%00", "/%ff"]
    for path in nowhere:
        refused(server, path, None, 404)
    assert refused(server, "/v1/models/%ff", None, 400)
    assert refused(server, "/v1/models/" + "a" * 1000, None, 404)["code"] == "model_not_found"
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "FOO"):
        refused(server, COMPLETIONS, None, 405, method=method)
    refused(server, "/v1/models", {}, 405)


def test_wrong_keys(start):
    closed = start("--api-key", "sesame")
    good = {"Authorization": "Bearer sesame"}
    assert closed.request("/v1/models", headers=good)[0] == 200
    wrong = ["", "sesame", "Bearer", "Bearer ", "Basic sesame"]
    wrong += [f"Bearer {key}" for key in ("sesam", "sesamee", "SESAME", "\xe9", "a" * 10_000)]
    for path in ("/v1/models", "/metrics", "/nothing", COMPLETIONS):
        refused(closed, path, None, 401)
        for key in wrong:
            refused(closed, path, None, 401, headers={"Authorization": key})
    assert closed.request("/health")[0] == 200
    # The key is asked for before the body is read.
    with connect(closed) as connection:
        connection.sendall(head(100 << 20) + b"{")
        check_error(*answer(connection), 401)


def test_other_hosts(server):
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "0x7f.1", "10.0.0.1"):
        refused(server, "/v1/models", None, 403, headers={"Host": host})


def test_what_is_no_http(server):
    lines = [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET /health HTTP/9.9\r\n\r\n", b"\0" * 1000]
    lines += [b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    lines += [b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n"]
    lines += [b"GET /health HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % index for index in range(1000)) + b"\r\n"]
    lines += [head(5, **{"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n", head(None, **{"Content-Length": "-5"})]
    for line in lines:
        with connect(server, 5) as connection:
            try:
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
                data = connection.recv(100)
            except TimeoutError:
                pytest.fail(f"no answer to {line[:60]!r}")
            except OSError:
                data = b""
            assert data == b"" or data.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), line[:60]


# Slow and absent clients.


def test_a_client_that_sends_a_byte_at_a_time_and_leaves(server):
    with connect(server) as slow:
        slow.sendall(head(1000))
        for byte in b'{"prompt": "One cold day, and so on"'[:30]:
            slow.sendall(bytes([byte]))
            begun = time.monotonic()
            assert server.request("/health")[0] == 200 and time.monotonic() - begun < 5
            time.sleep(0.1)
    # One that sends its head so.
    with connect(server) as slow:
        for byte in b"POST /v1/completions HTTP/1.1\r\n"[:20]:
            slow.sendall(bytes([byte]))
            time.sleep(0.05)
        status, _ = server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1})
        assert status == 200


def test_clients_that_never_read_their_streams(server):
    request = {"messages": HELLO, "max_tokens": 400, "temperature": 5, "seed": 0}
    body = json.dumps({**request, "logprobs": True, "top_logprobs": 20, "stream": True}).encode()
    before = memory(server)
    unread = []
    for _ in range(4):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((server.host, server.port))
        connection.sendall(head(len(body), CHAT) + body)
        unread.append(connection)
    until(lambda: server.metric("requests_running") == 4)
    # All slots are theirs, and another reply comes when they end: they wait for nobody to read.
    status, _ = server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1})
    assert status == 200
    until(lambda: server.metric("requests_running") == 0, 60)
    assert memory(server) - before < 64 << 20
    for connection in unread:
        connection.close()


def test_clients_that_leave(server):
    """Closed, reset and half-closed connections in every state of a request end it."""
    whole = json.dumps(LONG_REPLY).encode()
    stream = json.dumps({**LONG_REPLY, "stream": True}).encode()
    before = server.metric("generation_tokens_total")
    for body in (whole, stream):
        for reset in (False, True):
            connection = connect(server)
            connection.sendall(head(len(body)) + body)
            until(lambda: server.metric("requests_running") == 1)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            until(lambda: server.metric("requests_running") == 0, 1)
    assert server.metric("generation_tokens_total") - before < 1500


def test_many_connections(server):
    """Connections that are opened and left keep nobody from asking."""
    resource_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(2000 if LONG else 500, resource_limit // 2)
    left = [connect(server) for _ in range(count)]
    for index, connection in enumerate(left):
        connection.sendall([b"", b"POST /v1/comp", head(100), head(100) + b'{"prompt"'][index % 4])
    begun = time.monotonic()
    status, _ = server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1})
    assert status == 200 and time.monotonic() - begun < 5
    for connection in left:
        connection.close()


def test_more_connections_than_files(start):
    """A server out of files answers again: at the latest when it has closed those that ask nothing."""
    small = start("--slots", "1", "--client-timeout", "5")
    subprocess.run(["prlimit", "--nofile=64", "--pid", str(small.process.pid)], check=True)
    left = [connect(small) for _ in range(100)]
    try:
        status, _, _ = small.request("/health", timeout=60)
        assert status == 200
    except TimeoutError:
        pytest.fail("connections that never asked keep all others out")
    finally:
        for connection in left:
            connection.close()


def test_a_thousand_requests_at_once(server):
    """More than the queue holds: each is answered, with a reply or 429."""
    found: list[int] = []
    bodies = [{"prompt": "a", "max_tokens": 1}, {"prompt": "a", "max_tokens": 1, "stream": True}]

    def ask(index: int) -> None:
        status, headers, data = server.request(COMPLETIONS, bodies[index % 2])
        if status != 200:
            check_error(status, data, 429)
            assert headers["retry-after"] == "1"
        found.append(status)

    for _ in range(5):
        threads = [threading.Thread(target=ask, args=(index,)) for index in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 1000 and found.count(200) >= 100


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, {"prompt": "word " * 1_600_000}),
        (COMPLETIONS, {"prompt": "x" * 8_000_000}),
        (COMPLETIONS, {"prompt": "word " * 200_000, "n": 16}),
        (CHAT, {"messages": [{"role": "user", "content": "word " * 200_000}], "n": 16}),
        (CHAT, {"messages": [{"role": "user", "content": "word " * 1_600_000}]}),
        (CHAT, {"messages": [{"role": "user", "content": "a"}] * 190_000}),
        (CHAT + "/render", {"messages": [{"role": "user", "content": "word " * 1_600_000}]}),
        (CHAT, {"messages": HELLO, "tools": [{"type": "function", "function": {"name": "f", "x": [[]] * 1_900_000}}]}),
        ("/tokenize", {"prompt": "x" * 8_000_000}),
        ("/detokenize", {"tokens": [5] * 2_600_000}),
    ],
    ids=[
        "words",
        "one word",
        "16 texts",
        "16 chats",
        "chat",
        "messages",
        "render",
        "tools",
        "tokenize",
        "detokenize",
    ],
)
def test_a_huge_request_holds_up_nobody(server, path, body):
    """8 MB, or 1 MB for 16 replies, while a neighbour asks for single tokens and for the server's health."""
    data = json.dumps(body).encode()
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(server.request(path, data)[0]))
    before = memory(server)
    longest = {"a token": 0.0, "health": 0.0}
    thread.start()
    while thread.is_alive():
        for name, ask in (
            ("a token", lambda: server.request(COMPLETIONS, {"prompt": "a", "max_tokens": 1})),
            ("health", lambda: server.request("/health")),
        ):
            begun = time.monotonic()
            assert ask()[0] == 200
            longest[name] = max(longest[name], time.monotonic() - begun)
    thread.join()
    assert done and done[0] in (200, 400)
    assert max(longest.values()) < 5, longest
    assert memory(server) - before < 512 << 20
