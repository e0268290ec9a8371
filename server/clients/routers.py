"""Other people's routers in front of two replicas of `selvedge serve assets/demo`, as processes that end with the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from conftest import BINARY, ROOT, Server

SLOTS = 4
DEMO = str(ROOT / "assets/demo")
SERVE = [DEMO, "--device", "cpu", "--slots", str(SLOTS), "--quiet"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def process(log: Path, command: list[str], **environment: str) -> Iterator[subprocess.Popen]:
    """A process that ends with the block: SIGTERM, then SIGKILL. Its lines go to a file."""
    with log.open("w") as lines:
        one = subprocess.Popen(command, stdout=lines, stderr=lines, env={**os.environ, **environment})
    try:
        yield one
    finally:
        one.terminate()
        try:
            one.wait(20)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


class Replica:
    """A replica behind a router: its server's address, and the process that is killed or drained."""

    request, metric = Server.request, Server.metric

    def __init__(self, address: str, process: subprocess.Popen) -> None:
        self.address, self.process = address, process

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    def drain(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def two_replicas(
    stack: ExitStack, folder: Path, command: Callable[[str], list[str]], **environment: str
) -> list[Replica]:
    """Two servers, each on the port that its command is given; they end with the stack."""
    replicas = []
    for index in range(2):
        port = free_port()
        one = stack.enter_context(process(folder / f"replica{index}", command(str(port)), **environment))
        replicas.append(Replica(f"http://127.0.0.1:{port}", one))
    return replicas


class VllmRouter:
    """`vllm-router` with its policy by prefixes."""

    name = "vllm-router"
    # It knows a conversation by its text.
    keeps_prefixes = True

    @contextmanager
    def running(self, folder: Path) -> Iterator[tuple[str, list[Replica]]]:
        """The router's address, and the replicas behind it."""
        with ExitStack() as stack:
            replicas = two_replicas(stack, folder, lambda port: [BINARY, "serve", *SERVE, "--port", port])
            port = free_port()
            router = [sys.executable, "-m", "vllm_router.launch_router", "--host", "127.0.0.1", "--port", str(port)]
            router += ["--prometheus-port", str(free_port()), "--policy", "cache_aware"]
            router += ["--health-check-interval-secs", "1", "--health-failure-threshold", "1"]
            router += ["--worker-urls", *(replica.address for replica in replicas)]
            stack.enter_context(process(folder / "router", router))
            yield f"http://127.0.0.1:{port}", replicas


class Dynamo:
    """NVIDIA Dynamo's frontend, and `integrations/dynamo` as its workers; discovery by files, no etcd and no NATS."""

    name = "Dynamo"
    keeps_prefixes = False

    @contextmanager
    def running(self, folder: Path) -> Iterator[tuple[str, list[Replica]]]:
        """The frontend's address, and the workers behind it."""
        with ExitStack() as stack:
            store = stack.enter_context(tempfile.TemporaryDirectory())
            planes = {"DYN_DISCOVERY_BACKEND": "file", "DYN_REQUEST_PLANE": "tcp", "DYN_EVENT_PLANE": "zmq"}
            planes |= {"DYN_FILE_KV": store, "DYN_TCP_RPC_HOST": "127.0.0.1", "SELVEDGE_BINARY": BINARY}
            script = str(ROOT / "integrations/dynamo/selvedge_worker.py")
            command = [sys.executable, script, "--server-port"]
            replicas = two_replicas(stack, folder, lambda port: [*command, port, "--", *SERVE[:-1]], **planes)
            port = free_port()
            frontend = [sys.executable, "-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", str(port)]
            stack.enter_context(process(folder / "frontend", frontend, **planes))
            yield f"http://127.0.0.1:{port}", replicas
