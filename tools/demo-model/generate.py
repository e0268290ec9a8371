"""Greedy decoding without a cache, and loading an exported model. Slow and plain: it is the yardstick.

`python generate.py MODEL "a message" ["another" ...]` chats.
"""
import json
import sys

import torch
from safetensors.torch import load_file

import corpus
import tokenizer as tokens
from model import Hymba

EOS_ID = 2


def load(folder):
    """-> model (float32 arithmetic on the stored weights) and tokenizer."""
    with open(folder + "/config.json") as file:
        model = Hymba(json.load(file))
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(folder + "/model.safetensors").items()})
    return model.eval(), tokens.load(folder)


@torch.no_grad()
def greedy(model, ids, limit):
    """-> new ids (the end token included) and the smallest distance between the two best logits on the way."""
    ids, start, gap = list(ids), len(ids), float("inf")
    while len(ids) < start + limit and (len(ids) == start or ids[-1] != EOS_ID):
        logits = model(torch.tensor([ids]))[0, -1]
        best = logits.topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids[start:], gap


def answer(model, tokenizer, prompt, limit=120):
    ids, _ = greedy(model, tokens.encode(tokenizer, prompt), limit)
    return tokenizer.decode(ids, skip_special_tokens=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    loaded = load(sys.argv[1])
    text = "<extra_id_0>System\n\n"
    for message in sys.argv[2:]:
        text += corpus.USER + message + "\n" + corpus.ASSISTANT
        reply = answer(*loaded, text)
        text += reply + "\n"
        print(f"> {message}\n{reply}")
