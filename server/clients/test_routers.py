"""vllm-router and NVIDIA Dynamo in front of two replicas, under load, while one is killed or drained.

Both promise the same of a replica that is drained: **no request is lost**. Of one that is killed, what it had begun to answer is
lost (for Dynamo also what waited there for a slot), and nothing else is:

* the client of such a reply learns it: its stream does not come to `[DONE]`, or has an error;
* requests after it are answered. Dynamo, which tries a request once, may answer some of them with 503 before any text, up to the
  end of the dead worker's lease; a client that tries again, as OpenAI's do, gets its reply. vllm-router tries again itself.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field

import aiohttp
import pytest
from conftest import until
from routers import SLOTS, Dynamo, Replica, VllmRouter
from streams import CHAT, COMPLETIONS, Reply, ask, client_of, holds, running

CLIENTS, TURNS = 8, 4
TOPICS = ["the lake", "an old tower", "a red boat", "her garden", "the winter fair", "a lost key", "a blue bird", "the train"]


@pytest.fixture(scope="module", params=[VllmRouter, Dynamo], ids=lambda kind: kind.name)
def kind(request):
    return request.param()


@pytest.fixture
def behind(kind, tmp_path):
    """A router's address and its two replicas, all of which answer."""
    with kind.running(tmp_path) as (address, replicas):
        try:
            asyncio.run(_ready(address, replicas))
        except BaseException:
            for file in sorted(tmp_path.iterdir()):
                print(f"--- {file.name}\n{file.read_text()[-3000:]}")
            raise
        yield address, replicas


async def _ready(address: str, replicas: list[Replica]) -> None:
    async with client_of(address) as client:
        end = time.monotonic() + 60
        # The router sends to both when both have had a request.
        while not all(answered(replica) for replica in replicas):
            assert time.monotonic() < end, "the router does not send to both replicas"
            told = [uuid.uuid4().hex for _ in range(4)]
            await asyncio.gather(*(ask(client, COMPLETIONS, body(prompt=one, max_tokens=1)) for one in told))
            await asyncio.sleep(0.2)


def answered(replica: Replica) -> bool:
    try:
        return replica.metric("requests_total") > 0
    except OSError:
        return False


def body(**fields) -> dict:
    return {"model": "demo", "temperature": 0, "stream": True, "stream_options": {"include_usage": True}, **fields}


@dataclass
class Turn:
    """A turn of a conversation: what was asked, and what came."""

    number: int
    messages: list[dict]
    reply: Reply


@dataclass
class Load:
    """Clients who talk in turns, each with conversations of its own, until they are told to stop."""

    address: str
    turns: list[Turn] = field(default_factory=list)
    ending: bool = False

    async def client(self, session: aiohttp.ClientSession, number: int) -> None:
        talks = 0
        while not self.ending:
            topic = TOPICS[number % len(TOPICS)]
            told = f"Person {number}, talk {talks}: tell me of {topic}, and of everyone who went there on that long day."
            messages, talks = [{"role": "user", "content": told}], talks + 1
            for turn in range(TURNS):
                reply = await ask(session, CHAT, body(messages=messages, max_tokens=60))
                self.turns.append(Turn(turn, messages, reply))
                if not reply.ok or self.ending:
                    break
                said = {"role": "assistant", "content": reply.text}
                messages = [*messages, said, {"role": "user", "content": "And what happened then?"}]

    async def count(self, more: int) -> None:
        """Waits for so many more turns."""
        wanted = len(self.turns) + more
        await holds(lambda: len(self.turns) >= wanted, 120)


async def under_load(address: str, act) -> list[Turn]:
    """All turns of a load, amid which `act` is done."""
    load = Load(address)
    async with client_of(address) as session:
        clients = [asyncio.create_task(load.client(session, number)) for number in range(CLIENTS)]
        with running(clients):
            await load.count(3 * CLIENTS)
            await act(load)
            load.ending = True
            await asyncio.gather(*clients)
    return load.turns


def check_texts(address: str, turns: list[Turn]) -> None:
    """Some of the whole replies, asked for once more where nobody else asks."""

    async def alone(session: aiohttp.ClientSession, turn: Turn) -> Reply:
        reply = await ask(session, CHAT, body(messages=turn.messages, max_tokens=60))
        # 503: the router still counts on a replica that is gone. The next try reaches the other.
        return reply if reply.status == 200 else await ask(session, CHAT, body(messages=turn.messages, max_tokens=60))

    async def again() -> None:
        async with client_of(address) as session:
            for turn in turns[:: max(1, len(turns) // 8)]:
                reply = await alone(session, turn)
                assert reply.text == turn.reply.text and reply.finish_reason == turn.reply.finish_reason

    asyncio.run(again())


def idle(replica: Replica) -> bool:
    return replica.metric("requests_running") == replica.metric("requests_waiting") == 0


def test_a_replica_is_drained(behind):
    """Nothing is lost: what it has begun it ends, what it refuses the router sends to the other."""
    address, replicas = behind

    async def act(load: Load) -> None:
        await holds(lambda: replicas[0].metric("requests_running") > 0)
        replicas[0].drain()
        await load.count(6 * CLIENTS)

    turns = asyncio.run(under_load(address, act))
    assert [turn.reply for turn in turns if not turn.reply.ok] == []
    assert replicas[0].process.wait(30) == 0
    until(lambda: idle(replicas[1]))
    check_texts(address, turns)


def test_a_replica_is_killed(behind, kind):
    """What it had begun is lost, and told; nothing else is."""
    address, replicas = behind
    killed, had = 0.0, 0

    async def act(load: Load) -> None:
        nonlocal killed, had
        await holds(lambda: replicas[0].metric("requests_running") > 0)
        had = replicas[0].metric("requests_running") + replicas[0].metric("requests_waiting")
        replicas[0].kill()
        killed = time.monotonic()
        await load.count(6 * CLIENTS)

    turns = asyncio.run(under_load(address, act))
    failed = [turn.reply for turn in turns if not turn.reply.ok]
    # Dynamo refuses some that it had not given to a worker yet, whenever they came: by the status, or in the stream.
    refused = [reply for reply in failed if reply.status == 503 or (not reply.text and "'code': 503" in str(reply.fault))]
    begun = [reply for reply in failed if reply not in refused]
    assert all(reply.began < killed for reply in begun), begun
    # No more than it could have: those in its slots, and for vllm-router no other. (Dynamo tells the client of an answer as soon
    # as a worker has the request, though it waits for a slot.)
    # One more may have come between the look at it and its end.
    assert len(begun) <= (SLOTS if kind.name == "vllm-router" else had + 1), begun
    # None of them looks like a whole reply.
    assert all(not reply.whole or reply.fault for reply in begun), begun
    if kind.name == "vllm-router":
        assert refused == []
    # The others are refused before any text, with a status upon which clients try again.
    assert all(not reply.text for reply in refused), refused
    after = [turn.reply for turn in turns if turn.reply.began > killed and turn.reply.ok]
    assert len(after) >= 6 * CLIENTS - len(failed)
    until(lambda: idle(replicas[1]))
    check_texts(address, [turn for turn in turns if turn.reply.ok])


def test_a_client_that_leaves_ends_its_reply(behind):
    """The router passes it on: the slot is free long before the reply would have ended."""
    address, replicas = behind

    async def leave() -> Reply:
        async with client_of(address) as session:
            return await ask(session, COMPLETIONS, body(prompt="One cold day", max_tokens=1500), leave_after=5)

    for _ in range(5):
        made = sum(replica.metric("generation_tokens_total") for replica in replicas)
        reply = asyncio.run(leave())
        assert reply.status == 200 and len(reply.times) == 5
        until(lambda: all(idle(replica) for replica in replicas))
        assert sum(replica.metric("generation_tokens_total") for replica in replicas) - made < 1000


def test_errors_of_the_server_reach_the_client(behind, kind):
    """A request that cannot be is refused with 400, streamed and whole, and holds nothing."""
    address, replicas = behind
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "not": {"type": "string"}}}}

    async def wrong() -> list[Reply]:
        async with client_of(address) as session:
            messages = [{"role": "user", "content": "Hello."}]
            asked = [body(messages=messages, response_format=schema, stream=stream) for stream in (True, False)]
            for one in asked:
                if not one["stream"]:
                    del one["stream_options"]
            return [await ask(session, CHAT, one) for one in asked]

    streamed, whole = asyncio.run(wrong())
    # Dynamo has begun the answer to a stream by then, and tells the error in it.
    for reply in (streamed, whole):
        assert reply.status == 400 or (kind.name == "Dynamo" and reply is streamed and "400" in reply.fault), reply
        assert not reply.text
    assert all(idle(replica) for replica in replicas)


def test_turns_of_a_conversation_reach_the_replica_that_knows_it(behind, kind):
    """Routing by prefixes: a later turn finds the prompt of the turn before it read already."""
    if not kind.keeps_prefixes:
        pytest.skip(f"{kind.name} knows a conversation by token ids, which a worker that takes text does not tell it")
    address, replicas = behind

    async def act(load: Load) -> None:
        await load.count(8 * CLIENTS)

    turns = asyncio.run(under_load(address, act))
    assert all(turn.reply.ok for turn in turns)
    prompts = {str(turn.messages): turn.reply.prompt_tokens for turn in turns}
    later = [turn for turn in turns if turn.number > 0]
    assert len(later) > 4 * CLIENTS and all(replica.metric("requests_total") > CLIENTS for replica in replicas)
    found = [turn for turn in later if turn.reply.cached_tokens >= prompts[str(turn.messages[:-2])]]
    assert len(found) >= 0.95 * len(later), [(turn.number, turn.reply.cached_tokens) for turn in later]
