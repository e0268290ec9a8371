"""Greedy exact match on held-out questions.

The greedy answer equals the expected one, end token included, exactly when the model's
favourite is the expected token at every place of the answer; so one pass per question tells.

`python evaluate.py MODEL [seed [questions per cell]]` asks an exported model and writes MODEL/questions.json, with
what it got right, and MODEL/own_words.json, its answers to questions in other words.
"""
import json
import sys

import torch

import corpus
import generate
import tokenizer as tokens
from own_words import OWN_WORDS

SPANS = tuple(f"{low}-{high}" for low, high in corpus.DISTANCES)


@torch.no_grad()
def ask(model, tokenizer, questions, rows=16):
    """-> for each question whether the whole answer is right."""
    encoded = []
    for q in questions:
        prompt, whole = tokens.encode(tokenizer, q["prompt"]), tokens.encode(tokenizer, q["prompt"] + q["answer"]) + [2]
        assert whole[:len(prompt)] == prompt
        encoded.append((len(prompt), whole))
    right, order = [None] * len(questions), sorted(range(len(questions)), key=lambda i: len(encoded[i][1]))
    for start in range(0, len(order), rows):
        chosen = order[start:start + rows]
        ids = torch.zeros(len(chosen), max(len(encoded[i][1]) for i in chosen), dtype=torch.long)
        for row, i in enumerate(chosen):
            ids[row, :len(encoded[i][1])] = torch.tensor(encoded[i][1])
        favourite = model(ids).argmax(-1)
        for row, i in enumerate(chosen):
            prompt, whole = encoded[i]
            right[i] = favourite[row, prompt - 1:len(whole) - 1].tolist() == whole[prompt:]
    return right


def span(distance):
    return next(s for s in SPANS if distance <= int(s.split("-")[1]))


def share(right):
    return round(sum(right) / len(right), 3) if right else None


def shares(questions, right, by):
    """Share of right answers by "kind" or by "span" of distance."""
    groups = {}
    for q, ok in zip(questions, right):
        groups.setdefault(q["kind"] if by == "kind" else span(q["distance"]), []).append(ok)
    return {name: share(groups[name]) for name in sorted(groups, key=lambda g: (len(g), g))}


def main(folder, seed=20771, per_cell=8):
    torch.set_num_threads(1)
    model, tokenizer = generate.load(folder)
    questions = corpus.questions(seed, per_cell, lambda text: len(tokens.encode(tokenizer, text)))
    out = []
    for q, right in zip(questions, ask(model, tokenizer, questions)):
        ids = tokens.encode(tokenizer, q["prompt"])
        whole = tokens.encode(tokenizer, q["prompt"] + q["answer"]) + [generate.EOS_ID]
        out.append(dict(prompt=q["prompt"], ids=ids, answer=q["answer"], answer_ids=whole[len(ids):], kind=q["kind"], distance=q["distance"], guess=round(q["guess"], 4), right=right))
    with open(folder + "/questions.json", "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(q) for q in out) + "\n]\n")
    right = [q["right"] for q in out]
    print(len(out), "questions, right:", share(right), shares(out, right, "span"), shares(out, right, "kind"))

    said = []
    for text, question, wanted in OWN_WORDS:
        reply = generate.answer(model, tokenizer, "<extra_id_0>System\n\n" + corpus.USER + text + "\n" + question + "\n" + corpus.ASSISTANT, 40)
        said.append(dict(text=text, question=question, wanted=wanted, reply=reply, right=wanted in reply))
    with open(folder + "/own_words.json", "w") as file:
        json.dump(said, file, indent=1)
        file.write("\n")
    print("own words:", sum(s["right"] for s in said), "of", len(said))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]))
