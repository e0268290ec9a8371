"""A minute of 64 streams at once: whole ones, some that leave, some malformed, some too long. Long tier."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import pytest
from conftest import LONG, Server, memory, until
from streams import CHAT, COMPLETIONS, Reply, ask, client_of, running

pytestmark = pytest.mark.skipif(not LONG, reason="the long tier (SELVEDGE_LONG=1)")

STREAMS, SLOTS, SECONDS = 64, 8, 60
CONTEXT = 2048
# What the process may grow by from the middle of the minute to its end. By then every buffer and most of the allocator's arenas are
# there; on two cores it is 300 requests, so 25 KiB kept of each would show.
MOST_GROWTH = 8 << 20
WORDS = [
    "Mia",
    "Emma",
    "Finn",
    "visited",
    "the",
    "old",
    "cold",
    "lake",
    "tower",
    "garden",
    "one",
    "windy",
    "day",
    "with",
    "boat",
]
SCHEMA = {"type": "object", "properties": {"name": {"enum": ["Mia", "Finn"]}}, "required": ["name"]}


@dataclass
class Ask:
    """A request, and what must become of it."""

    kind: str
    path: str
    body: object
    status: int = 200
    leave_after: int | None = None


def some_words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(WORDS, k=count))


def whole(chance: random.Random) -> Ask:
    """A reply to its end: greedy or drawn with a seed, short and long prompts, chats, one that a schema binds."""
    fields: dict = {"max_tokens": chance.randint(1, 60), "stream": True}
    fields |= chance.choice([{"temperature": 0}, {"temperature": 1.2, "seed": chance.randrange(1000)}])
    if chance.random() < 0.1:
        fields |= {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}
    text = some_words(chance, chance.choice([3, 12, 60, 250]))
    if chance.random() < 0.5:
        return Ask("whole", COMPLETIONS, {"prompt": text, **fields})
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}]
    return Ask("whole", CHAT, {"messages": messages, **fields})


def leaving(chance: random.Random) -> Ask:
    """A reply of more than a thousand tokens whose client leaves, at once or amid it."""
    body = {"prompt": f"{some_words(chance, 3)} One cold day", "max_tokens": 1500, "temperature": 0, "stream": True}
    return Ask("leaving", COMPLETIONS, body, leave_after=chance.choice([0, 1, 5, 20]))


def malformed(chance: random.Random) -> Ask:
    body = chance.choice(
        [b"{", b"[]", b'{"prompt": 5}', b'{"prompt": "a", "temperature": "hot"}', b"\xff", b'{"prompt": "a", "n": 99}']
    )
    return Ask("malformed", COMPLETIONS, body, status=400)


def too_long(chance: random.Random) -> Ask:
    """More tokens than the context has."""
    return Ask("too long", COMPLETIONS, {"prompt": some_words(chance, CONTEXT + 500), "stream": True}, status=400)


KINDS: list[tuple[Callable[[random.Random], Ask], int]] = [(whole, 70), (leaving, 15), (malformed, 10), (too_long, 5)]


@dataclass
class Load:
    """What all clients asked, and what came."""

    end: float
    done: list[tuple[Ask, Reply]] = field(default_factory=list)

    async def client(self, session, number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < self.end:
            make = chance.choices([make for make, _ in KINDS], [weight for _, weight in KINDS])[0]
            asked = make(chance)
            self.done.append((asked, await ask(session, asked.path, asked.body, asked.leave_after)))


async def load(server: Server, sizes: list[tuple[float, int]]) -> Load:
    """The minute, with the server's bytes in memory and the times of looking."""
    began = time.monotonic()
    all_of_it = Load(began + SECONDS)
    async with client_of(server.address) as session:
        clients = [asyncio.create_task(all_of_it.client(session, number)) for number in range(STREAMS)]
        with running(clients):
            while time.monotonic() < all_of_it.end:
                sizes.append((time.monotonic() - began, memory(server)))
                await asyncio.sleep(0.25)
            await asyncio.gather(*clients)
    return all_of_it


async def solo(server: Server, asked: list[Ask]) -> list[Reply]:
    """The same requests, one after another."""
    async with client_of(server.address) as session:
        return [await ask(session, one.path, one.body) for one in asked]


def test_a_minute_of_64_streams(start):
    server = start("--slots", str(SLOTS), "--queue", str(STREAMS), "--quiet")
    sizes: list[tuple[float, int]] = []
    done = asyncio.run(load(server, sizes)).done

    # Every request became what it had to.
    for asked, reply in done:
        assert reply.status == asked.status, (asked.kind, reply)
        if asked.kind == "whole":
            assert reply.ok, reply
        elif asked.kind != "leaving":
            assert reply.fault and not reply.text, reply
    counts = Counter(asked.kind for asked, _ in done)
    assert set(counts) == {"whole", "leaving", "malformed", "too long"} and counts["whole"] >= 2 * STREAMS, counts

    # Nothing is left of them: no slot, nobody who waits, and a request more than there are slots is made at once.
    until(lambda: server.metric("requests_running") == server.metric("requests_waiting") == 0, 5)
    made = server.metric("generation_tokens_total")
    time.sleep(0.5)
    assert server.metric("generation_tokens_total") == made, "something still makes tokens"
    bodies = [
        {"prompt": f"{index} One cold day", "max_tokens": 400, "temperature": 0, "stream": True} for index in range(SLOTS)
    ]

    async def all_slots() -> None:
        async with client_of(server.address) as session:
            clients = [asyncio.create_task(ask(session, COMPLETIONS, body)) for body in bodies]
            with running(clients):
                await asyncio.to_thread(until, lambda: server.metric("requests_running") == SLOTS)
                assert all([(await one).ok for one in clients])

    asyncio.run(all_slots())

    # Memory: the median of the last tenth of the minute against that of the tenth in its middle.
    middle = median(size for at, size in sizes if 0.45 < at / SECONDS < 0.55)
    last = median(size for at, size in sizes if at / SECONDS > 0.9)
    print(f"{dict(counts)}; {sizes[0][1] >> 20} MiB before, {middle / 2**20:.1f} amid, {last / 2**20:.1f} at the end")
    assert last - middle < MOST_GROWTH

    # Texts: each whole one as it is where nobody else asks, on a server that has never seen it.
    asked, replies = zip(*[(asked, reply) for asked, reply in done if asked.kind == "whole"])
    alone = asyncio.run(solo(start("--slots", "1", "--quiet"), list(asked)))
    different = [
        (one, a.text, b.text)
        for one, a, b in zip(asked, replies, alone)
        if (a.text, a.finish_reason) != (b.text, b.finish_reason)
    ]
    assert different == []
