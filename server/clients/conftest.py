"""A server for each module: `selvedge serve assets/demo` on a free loopback port, stopped at the end."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import re
import resource
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

# Nothing is written into the repository.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SELVEDGE_BINARY", str(ROOT / "target/debug/selvedge"))
LONG = os.environ.get("SELVEDGE_LONG") == "1"

# Other people's routers need packages of their own: `cargo xtask test --all` runs their tests by name, with those.
collect_ignore = [] if importlib.util.find_spec("vllm_router") else ["test_routers.py"]


class Server:
    """A running server: its address, its log and its metrics.

    `command` are all arguments of the binary, for a test that wants none of these; `key` is what clients must send.
    """

    def __init__(
        self,
        *options: str,
        model: Path = ROOT / "assets/demo",
        command: list[str] | None = None,
        key: str | None = None,
    ) -> None:
        command = command or ["serve", str(model), "--device", "cpu", "--port", "0"]
        environment = {name: value for name, value in os.environ.items() if name != "SELVEDGE_API_KEY"}
        environment |= {"SELVEDGE_API_KEY": key} if key else {}
        self.process = subprocess.Popen([BINARY, *command, *options], stderr=subprocess.PIPE, text=True, env=environment)
        self.log: list[str] = []
        lines: queue.Queue[str | None] = queue.Queue()

        # The pipe is read to its end, so that the server never waits for it.
        def read() -> None:
            assert self.process.stderr
            for line in self.process.stderr:
                self.log.append(line.rstrip("\n"))
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            self.address = self._address(lines)
            self.host, port = self.address.removeprefix("http://").rsplit(":", 1)
            self.port = int(port)
            self.model, self.folder = model.name, model
        except BaseException:
            self.stop()
            raise

    def _address(self, lines: queue.Queue[str | None]) -> str:
        until = time.monotonic() + 60
        while (line := lines.get(timeout=max(0.1, until - time.monotonic()))) is not None:
            if found := re.match(r"listening at (http\S+)/v1;", line):
                return found[1]
        raise RuntimeError("\n".join(self.log))

    def stop(self) -> None:
        """Ends the server: SIGTERM, then SIGKILL."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def request(
        self,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        method: str | None = None,
        timeout: float = 60,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (in lower case) and body of a request. `bytes` are sent as they are, other bodies as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.address + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, lower(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, lower(error.headers), error.read()

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> tuple[int, object]:
        """Status and JSON of a POST."""
        status, _, data = self.request(path, body, headers)
        return status, json.loads(data)

    def metric(self, name: str) -> int:
        """A value of `/metrics`."""
        text = self.request("/metrics")[2].decode()
        found = re.search(rf"^selvedge_{name} (\d+)$", text, re.MULTILINE)
        assert found, text
        return int(found[1])


def lower(headers: object) -> dict[str, str]:
    """Headers with names in lower case."""
    return {name.lower(): value for name, value in headers.items()}  # type: ignore[attr-defined]


def memory(server: Server) -> int:
    """Bytes of the server that are in memory."""
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The server of a module: four slots, a long queue."""
    one = Server("--slots", "4", "--queue", "64")
    yield one
    one.stop()


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts further servers, which end with the test."""
    started: list[Server] = []

    def begin(*options: str) -> Server:
        started.append(Server(*options))
        return started[-1]

    yield begin
    for one in started:
        one.stop()
