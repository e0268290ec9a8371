"""Worker of NVIDIA Dynamo that serves a model by `selvedge serve`: requests go to the server's HTTP interface as they are, and the
events of its streams come back.

    python selvedge_worker.py --discovery-backend file -- owner/name --slots 16

The server is a child at a port of the loopback, and lives and ends with the worker. On SIGTERM the worker leaves discovery,
then replies under way come to their ends, then the server ends, then the worker. A request that is cancelled closes its connection,
which ends the reply within two of the model's steps.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from dynamo.llm import ModelInput, ModelType, WorkerType, register_model
from dynamo.llm.exceptions import CannotConnect, HttpError, StreamIncomplete, WorkerUnavailable
from dynamo.runtime import Context, DistributedRuntime
from dynamo.runtime.logging import configure_dynamo_logging

logger = logging.getLogger("selvedge")

# Seconds between two looks at the server's health, and looks that may fail in a row.
LOOK, LOOKS = 1.0, 3
# Most bytes of a line of the server, in its log or in a stream.
LONGEST_LINE = 1 << 22
# Linux's number for a signal that a process gets when its parent has ended.
PR_SET_PDEATHSIG = 1


class ServerGone(Exception):
    """The server has ended, takes no requests any more, or serves what a worker cannot."""


class Server:
    """`selvedge serve` as a child, which does not outlive the worker."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, binary: str, port: int, options: list[str]) -> tuple[Server, str]:
        """The server and its address, once the model is loaded."""
        command = [binary, "serve", "--host", "127.0.0.1", "--port", str(port), "--quiet", *options]
        libc = ctypes.CDLL(None)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stderr=asyncio.subprocess.PIPE,
                limit=LONGEST_LINE,
                # Signals from a terminal come to the worker alone: it ends the server when its replies have ended.
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        except OSError as error:
            raise ServerGone(f"{binary} cannot be started: {error.strerror}; name the program by --binary") from error
        server = cls(process)
        while line := (await process.stderr.readline()).decode():
            print(line, end="", file=sys.stderr, flush=True)
            if found := re.match(r"listening at (http\S+)/v1;", line):
                server.told = asyncio.ensure_future(server._tell())
                return server, found[1]
        raise ServerGone(f"the server has not started: exit status {await process.wait()}")

    async def _tell(self) -> None:
        """The server's further lines: the pipe must not become full."""
        while line := await self.process.stderr.readline():
            sys.stderr.buffer.write(line)
            sys.stderr.flush()

    async def end(self, cut: bool) -> None:
        """Ends the server; with `cut` at once, whatever is under way."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL if cut else signal.SIGTERM)
        await self.process.wait()


class Worker:
    """Requests of a frontend, for one server."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.client = client
        # Ids of the requests under way.
        self.under_way: set[str] = set()

    async def generate(self, request: dict, context: Context) -> AsyncIterator[dict]:
        """The chunks of a reply, in OpenAI's shape."""
        name = context.id()
        self.under_way.add(name)
        cancelled = asyncio.ensure_future(context.async_killed_or_stopped())
        # Dynamo may leave the generator of a cancelled request where it is: then nothing behind `yield` runs.
        cancelled.add_done_callback(lambda _: self.under_way.discard(name))
        try:
            async for chunk in self._reply(request, cancelled):
                yield chunk
        finally:
            cancelled.cancel()
            self.under_way.discard(name)

    async def _reply(self, request: dict, cancelled: asyncio.Future) -> AsyncIterator[dict]:
        path = "/v1/chat/completions" if "messages" in request else "/v1/completions"
        # The frontend puts the chunks together where its client asked for no stream, and then needs their sum.
        wants_usage = not request.get("stream") or (request.get("stream_options") or {}).get("include_usage")
        body = {key: value for key, value in request.items() if value is not None}
        body |= {"stream": True, "stream_options": {"include_usage": bool(wants_usage)}}
        try:
            response = await _unless(cancelled, self.client.post(path, json=body))
            if response is None:
                return
            cancelled.add_done_callback(lambda _: response.close())
            async with response:
                if response.status != 200:
                    raise _refusal(response.status, await response.text())
                lines = aiter(response.content)
                while line := await _unless(cancelled, anext(lines, b"")):
                    if not line.startswith(b"data: "):
                        continue
                    data = line.removeprefix(b"data: ").strip()
                    if data == b"[DONE]":
                        return
                    chunk = json.loads(data)
                    if "error" in chunk:
                        raise HttpError(500, chunk["error"]["message"])
                    yield chunk
                if not cancelled.done():
                    raise StreamIncomplete("the server's stream has ended amid the reply")
        except aiohttp.ClientConnectorError as error:
            raise CannotConnect(f"the server cannot be reached: {error}") from error
        # The second of them: a line beyond the reader's limit.
        except (aiohttp.ClientError, ValueError, TimeoutError) as error:
            raise StreamIncomplete(f"the connection to the server broke amid the reply: {error!r}") from error

    async def is_well(self) -> bool:
        """True while the server takes requests."""
        try:
            async with self.client.get("/health", timeout=aiohttp.ClientTimeout(total=10)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def model(self) -> dict:
        """The server's model."""
        async with self.client.get("/v1/models") as response:
            response.raise_for_status()
            models = (await response.json())["data"]
        if len(models) != 1:
            names = ", ".join(model["id"] for model in models)
            raise ServerGone(f"a worker serves one model, and this server has several ({names}): start a worker for each")
        return models[0]


async def _unless(cancelled: asyncio.Future, work) -> object | None:
    """The result of `work`; nothing, and an end of it, when the request is cancelled before."""
    work = asyncio.ensure_future(work)
    try:
        await asyncio.wait([work, cancelled], return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        work.cancel()


def _refusal(status: int, text: str) -> Exception:
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = text[:500]
    # The server ends: another worker's takes the request.
    return WorkerUnavailable(message) if status == 503 else HttpError(status, message)


async def watch(worker: Worker, server: Server) -> None:
    """Raises when the server has ended, or takes no requests any more."""
    ended = asyncio.ensure_future(server.process.wait())
    failed = 0
    while failed < LOOKS:
        if (await asyncio.wait([ended], timeout=LOOK))[0]:
            raise ServerGone(f"the server has ended with status {ended.result()}")
        failed = 0 if await worker.is_well() else failed + 1
    raise ServerGone("the server takes no requests any more")


async def run(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ending.set)
    asked = asyncio.ensure_future(ending.wait())
    starting = asyncio.ensure_future(Server.start(arguments.binary, arguments.server_port, arguments.options))
    await asyncio.wait([starting, asked], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # The server, which still loads its model, ends with this process.
        return
    server, address = starting.result()
    key = os.environ.get("SELVEDGE_API_KEY")
    client = aiohttp.ClientSession(
        address,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        connector=aiohttp.TCPConnector(limit=0),
        read_bufsize=LONGEST_LINE,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
    )
    async with client:
        worker = Worker(client)
        model = await worker.model()
        runtime = DistributedRuntime(
            loop, arguments.discovery_backend, arguments.request_plane, event_plane=arguments.event_plane
        )
        endpoint = runtime.endpoint(f"{arguments.namespace}.{arguments.component}.generate")
        surfaces = ModelType.Chat | ModelType.Completions if model["chat"] else ModelType.Completions
        # Text goes in and comes out: the frontend needs neither tokenizer nor template, and no file of the model.
        await register_model(
            ModelInput.Text,
            surfaces,
            endpoint,
            model["id"],
            model["id"],
            worker_type=WorkerType.Aggregated,
            skip_model_assets=True,
        )
        served = asyncio.ensure_future(endpoint.serve_endpoint(worker.generate, graceful_shutdown=True))
        watched = asyncio.ensure_future(watch(worker, server))
        logger.info("serving %s", model["id"])
        await asyncio.wait([served, watched, asked], return_when=asyncio.FIRST_COMPLETED)
        try:
            if not served.done():
                await endpoint.unregister_endpoint_instance()
                if not watched.done():
                    await drain(worker, arguments)
        finally:
            # A server that has ended by itself is an error; one that is ended here is none.
            gone = watched.done()
            watched.cancel()
            runtime.shutdown()
            await server.end(cut=bool(worker.under_way))
        if gone:
            await watched
        await served


async def drain(worker: Worker, arguments: argparse.Namespace) -> None:
    """Waits for requests that are still on their way, then for replies under way."""
    await asyncio.sleep(arguments.grace)
    end = asyncio.get_running_loop().time() + arguments.drain
    while worker.under_way and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.05)
    if worker.under_way:
        logger.warning("%d replies are cut: they took longer than --drain %s", len(worker.under_way), arguments.drain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--binary", default=os.environ.get("SELVEDGE_BINARY", "selvedge"), help="the program `selvedge`")
    parser.add_argument(
        "--server-port", type=int, default=0, help="the server's port on the loopback, as for its metrics; 0: any"
    )
    parser.add_argument("--namespace", default=os.environ.get("DYN_NAMESPACE", "dynamo"))
    parser.add_argument("--component", default="selvedge")
    parser.add_argument("--discovery-backend", default=os.environ.get("DYN_DISCOVERY_BACKEND", "etcd"))
    parser.add_argument("--request-plane", default=os.environ.get("DYN_REQUEST_PLANE", "tcp"))
    parser.add_argument("--event-plane", default=os.environ.get("DYN_EVENT_PLANE", "zmq"))
    parser.add_argument("--grace", type=float, default=2, help="seconds in which requests still come after leaving discovery")
    parser.add_argument("--drain", type=float, default=30, help="seconds for replies under way")
    parser.add_argument("options", nargs="*", help="behind `--`: the model and options of `selvedge serve`")
    arguments = parser.parse_args()
    configure_dynamo_logging()
    try:
        uvloop.run(run(arguments))
    except ServerGone as gone:
        sys.exit(f"error: {gone}")


if __name__ == "__main__":
    main()
