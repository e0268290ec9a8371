"""Embeddings, scores and ranks: OpenAI's client, the shapes of vLLM and of NVIDIA's reward models, and the command line."""

from __future__ import annotations

import base64
import json
import math
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import reward_model
from conftest import BINARY, ROOT, Server, until

TEXTS = ["One cold day", "A dog ran.", "The moon is far away, and nobody lives there."]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0, timeout=120)


def close(a: list[float], b: list[float], most: float = 1e-5) -> bool:
    return len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b)) <= most


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b))


def test_embeddings_as_numbers_and_as_base64(server, client):
    # The client asks for base64 unless it is told otherwise.
    packed = client.embeddings.create(model=server.model, input=TEXTS)
    plain = client.embeddings.create(model=server.model, input=TEXTS, encoding_format="float")
    assert [one.index for one in packed.data] == [0, 1, 2]
    for a, b in zip(packed.data, plain.data):
        assert close(a.embedding, b.embedding, 1e-7)
        assert math.isclose(dot(a.embedding, a.embedding), 1, rel_tol=1e-5)
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == plain.usage.prompt_tokens > len(TEXTS)
    raw = server.post("/v1/embeddings", {"input": TEXTS[0], "encoding_format": "base64"})[1]["data"][0]["embedding"]
    data = base64.b64decode(raw)
    assert close(list(struct.unpack(f"<{len(data) // 4}f", data)), packed.data[0].embedding, 0)


def test_a_text_is_what_it_is_alone_and_as_ids(server, client):
    together = client.embeddings.create(model=server.model, input=TEXTS).data
    for text, one in zip(TEXTS, together):
        alone = client.embeddings.create(model=server.model, input=text).data[0].embedding
        assert alone == one.embedding
        ids = server.post("/tokenize", {"prompt": text})[1]["tokens"]
        assert client.embeddings.create(model=server.model, input=ids).data[0].embedding == alone
        assert client.embeddings.create(model=server.model, input=[ids, [5]]).data[0].embedding == alone


def test_shorter_vectors(server, client):
    whole = client.embeddings.create(model=server.model, input=TEXTS[0]).data[0].embedding
    short = client.embeddings.create(model=server.model, input=TEXTS[0], dimensions=8).data[0].embedding
    length = math.sqrt(dot(whole[:8], whole[:8]))
    assert close(short, [x / length for x in whole[:8]])
    for wrong in (0, len(whole) + 1):
        with pytest.raises(openai.BadRequestError) as refused:
            client.embeddings.create(model=server.model, input=TEXTS[0], dimensions=wrong)
        assert refused.value.param == "dimensions"


def test_more_texts_than_the_queue_has_room_for_beside_replies(start):
    """Each text waits for room of its own, and replies go on."""
    server = start("--slots", "3", "--queue", "0")
    texts = [f"Day {number} was cold." for number in range(100)]
    text = {"prompt": "One cold day", "max_tokens": 200, "temperature": 0}
    with ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(server.post, "/v1/completions", text) for _ in range(2)]
        until(lambda: server.metric("requests_running") == 2)
        status, answer = server.post("/v1/embeddings", {"input": texts})
        assert status == 200, answer
        made = [reply.result() for reply in replies]
    vectors = [one["embedding"] for one in answer["data"]]
    assert len(vectors) == len(texts) and len({tuple(one) for one in vectors}) == len(texts)
    alone = server.post("/v1/completions", text)[1]["choices"][0]["text"]
    assert all(status == 200 and answer["choices"][0]["text"] == alone for status, answer in made)
    assert (server.metric("requests_running"), server.metric("requests_waiting")) == (0, 0)


def test_a_query_beside_very_many_documents_is_bounded(server):
    for count, size in ((500_000, 3 << 20), (2_048, 1 << 20)):
        body = {"query": "a" * size, "documents": [""] * count}
        assert server.post("/v1/rerank", body)[0] == 400
        assert server.post("/v1/score", {"queries": body["query"], "documents": body["documents"]})[0] == 400
    assert server.post("/v1/rerank", {"query": "a", "documents": ["b"]})[0] == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [""] * 2049}, "input"),
        ({"input": 5}, "input"),
        ({"input": [[1], []]}, "input"),
        ({"input": [1 << 31]}, None),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": -1}, "dimensions"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": ["fine", "word " * 5000]}, None),
    ],
)
def test_wrong_embeddings_are_refused(server, body, param):
    status, answer = server.post("/v1/embeddings", body)
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert server.post("/v1/embeddings", {"input": "a", "model": "other"})[0] == 404


def test_the_command_gives_the_same(tmp_path, server, client):
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS))
    command = [BINARY, "embed", str(ROOT / "assets/demo"), "--device", "cpu"]
    for options, given in ((["--lines", str(lines)], None), (["--lines", "-"], "\n".join(TEXTS))):
        done = subprocess.run([*command, *options], input=given, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        printed = [json.loads(line) for line in done.stdout.splitlines()]
        assert [one["index"] for one in printed] == [0, 1, 2]
        for one, served in zip(printed, client.embeddings.create(model=server.model, input=TEXTS).data):
            assert close(one["embedding"], served.embedding, 1e-6)
    last = subprocess.run([*command, "--text", TEXTS[0], "--pooling", "last"], capture_output=True, text=True, timeout=60)
    assert not close(json.loads(last.stdout)["embedding"], printed[0]["embedding"], 1e-3)
    for wrong in (["--text", ""], [], ["--lines", str(tmp_path / "none")], ["--text", "word " * 9000]):
        done = subprocess.run([*command, *wrong], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and done.stderr and not done.stdout, wrong


def test_scores_of_a_language_model_are_cosines(server, client):
    vectors = [one.embedding for one in client.embeddings.create(model=server.model, input=TEXTS).data]
    for names in (("queries", "documents"), ("text_1", "text_2"), ("data_1", "data_2"), ("queries", "items")):
        scores = server.post("/v1/score", {names[0]: TEXTS[0], names[1]: TEXTS})[1]
        assert close([one["score"] for one in scores["data"]], [dot(vectors[0], vector) for vector in vectors])
    pairs = server.post("/v1/score", {"queries": TEXTS, "documents": TEXTS[::-1]})[1]["data"]
    assert close([one["score"] for one in pairs], [dot(a, b) for a, b in zip(vectors, vectors[::-1])])
    for wrong in ({"queries": TEXTS[:2], "documents": TEXTS}, {"queries": [], "documents": []}, {"queries": "a"}):
        assert server.post("/v1/score", wrong)[0] == 400
    assert server.post("/v1/score", {"queries": "a", "documents": "b", "label": "x"})[1]["error"]["param"] == "label"


def test_ranks(server):
    documents = [TEXTS[2], {"text": TEXTS[1]}, TEXTS[0]]
    ranking = server.post("/v1/rerank", {"query": TEXTS[0], "documents": documents})[1]
    scores = [one["relevance_score"] for one in ranking["results"]]
    assert scores == sorted(scores, reverse=True) and math.isclose(scores[0], 1, rel_tol=1e-5)
    assert ranking["results"][0]["index"] == 2 and ranking["results"][0]["document"] == {"text": TEXTS[0]}
    assert ranking["usage"]["total_tokens"] > 0
    short = server.post("/v1/rerank", {"query": TEXTS[0], "documents": documents, "top_n": 1, "return_documents": False})[1]
    assert short["results"] == [{"index": 2, "relevance_score": scores[0]}]


# Reward models.


@pytest.fixture(scope="module")
def reward(tmp_path_factory) -> Server:
    folder = reward_model.make(tmp_path_factory.mktemp("models") / "reward", ["helpfulness", "correctness"])
    one = Server("--slots", "2", model=folder)
    yield one
    one.stop()


def conversation(reply: str) -> list[dict]:
    return [{"role": "user", "content": "Where does the dog live?"}, {"role": "assistant", "content": reply}]


def test_a_reward_model_answers_as_nvidias_clients_read_it(reward):
    client = openai.OpenAI(base_url=f"{reward.address}/v1", api_key="none", max_retries=0)
    assert client.models.list().data[0].labels == ["helpfulness", "correctness"]
    answer = client.chat.completions.create(model="reward", messages=conversation("In a house."))
    content = answer.choices[0].logprobs.content
    assert [one.token for one in content] == ["helpfulness", "correctness"]
    said = dict(pair.split(":") for pair in answer.choices[0].message.content.split(","))
    assert close([float(said[one.token]) for one in content], [one.logprob for one in content])
    assert answer.usage.completion_tokens == 0 and answer.usage.prompt_tokens > 5
    # The command line, on what is read of the conversation.
    ids = reward.post("/v1/chat/completions/render", {"messages": conversation("In a house.")})[1]["token_ids"]
    assert len(ids) == answer.usage.prompt_tokens
    command = [BINARY, "score", str(reward.folder), "--device", "cpu", "--json", "--tokens", ",".join(map(str, ids))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    scores = json.loads(done.stdout)["scores"]
    assert close([one["score"] for one in scores], [one.logprob for one in content])
    # It ends with the reply, and not with the beginning of another.
    text = reward.post("/detokenize", {"tokens": ids})[1]["prompt"]
    assert text.rstrip().removesuffix("<|im_end|>").rstrip().endswith("In a house."), text
    other = client.chat.completions.create(model="reward", messages=conversation("On the moon."))
    assert other.choices[0].logprobs.content[0].logprob != content[0].logprob


def test_scores_and_ranks_of_a_reward_model(reward):
    replies = ["In a house.", "On the moon.", "No."]
    wanted = []
    for reply in replies:
        answer = reward.post("/v1/chat/completions", {"messages": conversation(reply)})[1]
        wanted.append([one["logprob"] for one in answer["choices"][0]["logprobs"]["content"]])
    question = conversation("")[0]["content"]
    for number, label in enumerate(["helpfulness", "correctness"]):
        body = {"queries": question, "documents": replies, "label": label}
        scores = [one["score"] for one in reward.post("/v1/score", body)[1]["data"]]
        assert close(scores, [scores[number] for scores in wanted], 1e-4)
        ranked = reward.post("/v1/rerank", {"query": question, "documents": replies, "label": label})[1]["results"]
        assert [one["index"] for one in ranked] == sorted(range(3), key=lambda at: -scores[at])
    for label in ({}, {"label": "wit"}):
        status, answer = reward.post("/v1/score", {"queries": "a", "documents": "b", **label})
        assert status == 400 and "helpfulness, correctness" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": conversation("a")[:1]}, "messages"),
        ("/v1/chat/completions", {"messages": conversation("a"), "stream": True}, "stream"),
        ("/v1/chat/completions", {"messages": conversation("a"), "n": 2}, "n"),
        ("/v1/chat/completions", {"messages": conversation("a"), "response_format": {"type": "json_object"}}, "response_format"),
        ("/v1/completions", {"prompt": "a"}, None),
        ("/v1/embeddings", {"input": "a"}, None),
    ],
)
def test_a_reward_model_refuses_what_it_does_not_give(reward, path, body, param):
    status, answer = reward.post(path, body)
    assert (status, answer["error"]["param"]) == (400, param), answer
    # And goes on.
    assert reward.post("/v1/chat/completions", {"messages": conversation("a")})[0] == 200
