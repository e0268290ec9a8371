"""Greedy exact match on held-out questions.

The greedy answer equals the expected one, end token included, exactly when the model's
favourite is the expected token at every place of the answer; so one pass per question tells.

`python evaluate.py MODEL [seed [questions per cell]]` asks an exported model and writes MODEL/questions.json: texts, and about each
[question, answer, kind, distance, what the model says if that is something else].
"""
import json
import sys

import torch

import corpus
import generate
import tokenizer as tokens

SPANS = tuple(f"{low}-{high}" for low, high in corpus.DISTANCES)


@torch.no_grad()
def ask(model, tokenizer, questions, rows=16):
    """-> for each question whether the whole answer is right."""
    encoded = []
    for q in questions:
        prompt, whole = tokens.encode(tokenizer, q.prompt), tokens.encode(tokenizer, q.prompt + q.answer) + [generate.EOS_ID]
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
        groups.setdefault(q.kind if by == "kind" else span(q.distance), []).append(ok)
    return {name: share(groups[name]) for name in sorted(groups, key=lambda g: (len(g), g))}


def main(folder, seed=31337, per_cell=15):
    torch.set_num_threads(1)
    model, tokenizer = generate.load(folder)
    questions = corpus.questions(seed, per_cell, lambda text: len(tokens.encode(tokenizer, text)))
    right = ask(model, tokenizer, questions)
    texts = {}
    for q, ok in zip(questions, right):
        said = None if ok else generate.answer(model, tokenizer, q.prompt, 40)
        texts.setdefault(q.story, []).append([q.question, q.answer, q.kind, q.distance, said])
    items = [json.dumps(story) + ": [\n" + ",\n".join(map(json.dumps, asked)) + "\n]" for story, asked in texts.items()]
    with open(folder + "/questions.json", "w") as file:
        file.write("{\n" + ",\n".join(items) + "\n}\n")
    print(len(questions), "questions, right:", share(right), shares(questions, right, "span"), shares(questions, right, "kind"))
    print("guessing:", share([q.guess for q in questions]))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]))
