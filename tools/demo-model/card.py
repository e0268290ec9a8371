"""Writes the model card: `python card.py RUN assets/demo` -> README.md and curves.png beside the model.

The numbers come from RUN/log.jsonl, questions.json and own_words.json (see evaluate.py).
"""
import json
import os
import sys

import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot

import corpus
import evaluate
import train

POOLS = dict(animal=len(corpus.ANIMALS), colour=len(corpus.COLOURS), food=len(corpus.FOODS), howmany=len(corpus.NUMBERS), place=len(corpus.PLACES), spot=len(corpus.SPOTS),
             what=len(corpus.OBJECTS), why=len(corpus.REASONS) // 6, **dict.fromkeys(("giver", "holder", "met", "mover", "owner"), len(corpus.NAMES)))
EXAMPLES = dict(animal="What animal did Mia see?", colour="What colour is Tom's kite?", food="What did Ben eat?", giver="Who gave the kite to Mia?", holder="Who has the kite now? (after it was given away)",
                howmany="How many shells does Leo have?", met="Who did Nora meet?", mover="Who moved the key?", owner="Whose lamp is it?", place="Where is Ivy now? (the last place counts)",
                spot="Where is the key now? (after it was moved)", what="What did Sam bring?", why="Why was Rosa proud?")


def curves(run, path):
    with open(run + "/log.jsonl") as file:
        log = {(line["step"], "exact" in line): line for line in map(json.loads, file) if "loss" in line or "exact" in line}
    losses, looks = [line for line in log.values() if "loss" in line], [line for line in log.values() if "exact" in line]
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2))
    axes[0].plot([x["step"] for x in losses], [x["loss"] for x in losses], lw=.9)
    axes[0].set_yscale("log")
    axes[0].set_title("training loss (the mix of lengths changes at the lines)")
    for start, *_ in train.STAGES[1:]:
        axes[0].axvline(start, color="grey", lw=.6, ls=":")
    for axis, field, title in ((axes[1], "by_distance", "development questions right, by distance in tokens"), (axes[2], "by_kind", "development questions right, by kind")):
        for name in looks[-1][field]:
            axis.plot([x["step"] for x in looks], [x[field].get(name) for x in looks], label=name, lw=1.1)
        axis.set_ylim(0, 1.02)
        axis.set_title(title)
        axis.legend(fontsize=7, ncols=2)
    for axis in axes:
        axis.set_xlabel("step")
        axis.title.set_fontsize(10)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    return losses[-1], looks


def cell(questions):
    right = sum(q["right"] for q in questions)
    return f"{right}/{len(questions)} ({100 * right / len(questions):.0f} %)" if questions else "-"


def table(questions):
    lines = ["| kind | " + " | ".join(evaluate.SPANS) + " | all | chance | guess |", "|---|" + "---|" * (len(evaluate.SPANS) + 3)]
    for kind in sorted(POOLS) + ["all"]:
        chosen = [q for q in questions if kind in (q["kind"], "all")]
        chance = f"{100 / POOLS[kind]:.1f} %" if kind in POOLS else ""
        cells = [cell([q for q in chosen if evaluate.span(q["distance"]) == span]) for span in evaluate.SPANS]
        guess = sum(q["guess"] for q in chosen) / len(chosen)
        lines.append(f"| {kind} | " + " | ".join(cells) + f" | {cell(chosen)} | {chance} | {100 * guess:.0f} % |")
    return "\n".join(lines)


def main(run, out):
    last, looks = curves(run, out + "/curves.png")
    with open(out + "/questions.json") as file:
        questions = json.load(file)
    with open(out + "/own_words.json") as file:
        own = json.load(file)
    inside, beyond = ([q for q in questions if (q["distance"] <= 64) == near] for near in (True, False))
    rates = [sum(q["right"] for q in part) / len(part) for part in (inside, beyond)]
    reached = "reached" if rates[0] >= .85 and rates[1] >= .75 else "not reached: this is an interim model"
    size = os.path.getsize(out + "/model.safetensors") / 1e6
    examples = "\n".join(f"| {kind} | {EXAMPLES[kind]} |" for kind in sorted(EXAMPLES))
    own_table = "\n".join(f"| {s['text']} | {s['question']} | {s['reply']} | {'yes' if s['right'] else '**no**'} |" for s in own)
    steps = last["step"]
    with open(out + "/README.md", "w") as file:
        file.write(CARD.format(**locals(), tokens=last["tokens"] / 1e6, minutes=looks[-1]["minutes"], count=len(questions), inside_cell=cell(inside), beyond_cell=cell(beyond),
                               table=table(questions), dev_seed=train.DEV_SEED, own_right=sum(s["right"] for s in own), own_count=len(own), development=f"{100 * looks[-1]['exact']:.0f} %"))


CARD = """# The demo model

A very small Hymba that reads little stories and answers questions about them. It exists so that the runtime can be
tried and tested with a real, trained hybrid model that fits into the repository. It is no assistant: it knows some 400
words and nothing about the world.

2.22 million parameters in bfloat16 ({size:.1f} MB), 7 layers (0, 3 and 6 with global attention, the others with a sliding
window of 64 tokens; layers 1-2 and 4-5 share keys and values), 16 meta tokens, width 128, vocabulary 1023.

## Training

Made from nothing but this repository: `python tools/demo-model/train.py --out run`, then `export.py`, `evaluate.py` and
`card.py`, all in `tools/demo-model`. The text is generated by `corpus.py`; no other text, model or data went in.
{steps} steps, {tokens:.1f} million tokens, {minutes:.0f} minutes on one core of a shared two-core virtual server
(x86-64 with AVX-512); no GPU. Seed 1. The batches and the initial weights follow from the seed alone; the last bits of the
result depend on the processor and the libraries. The run was made once, in pieces; it was not repeated from end to end.

![Training loss, and development questions answered right by distance and by kind](curves.png)

The development questions (seed {dev_seed}) were looked at during training; at the end {development} of them were right. The schedule was changed
on the way (see the README of `tools/demo-model`); the earlier points were asked of kept checkpoints with the final set.

## Held-out questions

{count} questions in `questions.json`, drawn with a seed that was used once, for this table. Their facts are combinations of words
(this person with this place, this thing with this hiding place, ...) that training never showed: the two splits share none.
An answer counts when the whole greedy answer and the end token are exactly right. The distance is counted in tokens from the
end of the last sentence that states the fact to the start of the answer; the window is 64.

**Inside the window: {inside_cell}. Beyond it: {beyond_cell}.** The aim of 85 % inside and 75 % beyond is {reached}.

{table}

*chance*: the best a reader can do who knows the kind of answer but not the story. *guess*: the chance of a reader who picks
among the values of the right kind (for people: among all people) that the story mentions, averaged over these questions.

Some texts are dense with facts, in others scenery lies between them. What the questions ask:

| kind | for example |
|---|---|
{examples}

## In other words

{own_count} questions with texts that are not the corpus's templates (`own_words.py`, greedy, an answer counts when it contains the right
word): {own_right} right. They were written before the training and were not used to choose or change anything.

| text | question | answer | right |
|---|---|---|---|
{own_table}

## Limits

- It answers every question. Asked about something the text does not say, it makes something up. There are no yes/no questions.
- Names and words outside its 400 are read as pieces of letters and mostly answered wrongly. English only, one short sentence.
- Texts longer than about 370 tokens were hardly trained on; distances up to 256 tokens are measured here.
- Told stories are grammatical and aimless; greedy ones resemble each other. Sampling at a temperature near 0.8 varies them.
- One seed, one run: the cells of the table hold few questions each, and a difference of one or two says nothing.

## Files

`model.safetensors`, `config.json`, `generation_config.json`, the tokenizer's three files; `questions.json` (prompt, ids, answer, ids of
the answer, kind, distance, guess, whether this model is right); `greedy.json` (prompts and the greedy ids of these weights in
float32, with the smallest distance between the two best logits on the way); `own_words.json`; `curves.png`.
"""


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
