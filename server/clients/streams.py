"""Many streams at once: a client that asks, reads a reply to its end or leaves amid it, and says what became of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass
class Reply:
    """What a client got."""

    began: float
    """When it asked (`time.monotonic`)."""
    status: int = 0
    """Status of the answer; 0: none came."""
    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    whole: bool = False
    """True if the stream came to `[DONE]`, or the answer was no stream and came whole."""
    fault: str = ""
    """The error that the server named, or what broke the connection."""
    times: list[float] = field(default_factory=list)
    """Times of the pieces of the text."""

    @property
    def ok(self) -> bool:
        """True for a reply from its beginning to its end."""
        return self.status == 200 and self.whole and self.finish_reason is not None and not self.fault


async def ask(client: aiohttp.ClientSession, path: str, body: object, leave_after: int | None = None) -> Reply:
    """Asks, and reads the reply; leaves after so many pieces of its text. `bytes` are sent as they are."""
    reply = Reply(time.monotonic())
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        async with client.post(path, data=data, headers={"Content-Type": "application/json"}) as response:
            reply.status = response.status
            if response.content_type != "text/event-stream":
                answer = await response.json(content_type=None)
                reply.whole = True
                _read(reply, answer or {})
                return reply
            async for line in response.content:
                line = line.decode().strip()
                if line == "data: [DONE]":
                    reply.whole = True
                elif line.startswith("data: "):
                    _read(reply, json.loads(line.removeprefix("data: ")))
                if leave_after is not None and len(reply.times) >= leave_after:
                    # An answer that is not read to its end: the connection is closed.
                    response.close()
                    return reply
    except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
        reply.fault = reply.fault or repr(error)
    return reply


def _read(reply: Reply, part: dict) -> None:
    reply.fault = reply.fault or str(part.get("error") or "")
    for choice in part.get("choices") or []:
        said = choice.get("delta") or choice.get("message") or {}
        text = choice.get("text") or said.get("content") or ""
        reply.text += text
        reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
        if text:
            reply.times.append(time.monotonic())
    usage = part.get("usage") or {}
    reply.prompt_tokens += usage.get("prompt_tokens") or 0
    reply.cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def client_of(address: str, key: str | None = None) -> aiohttp.ClientSession:
    """A client with as many connections as it has requests, which waits two minutes for each part of an answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
    return aiohttp.ClientSession(address, connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=headers)


@contextmanager
def running(clients: list[asyncio.Task]) -> Iterator[None]:
    """Ends clients that are still at work when a test fails."""
    try:
        yield
    finally:
        for client in clients:
            client.cancel()


async def holds(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)
