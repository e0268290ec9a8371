"""Trains the demo model: `python train.py --out run`.

Everything follows the seed: the batch of a step depends on the seed and the step's number
only, so a run that was interrupted goes on from OUT/checkpoint.pt as if it had not been.
(The last bits depend on the processor and on the number of threads.) OUT/log.jsonl keeps
the curve; the questions asked during training are not those of the final evaluation.
"""
import argparse
import json
import os
import random
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import numpy as np
import torch
import torch.nn.functional as F

import corpus
import evaluate
import tokenizer as tokens
from model import Hymba, make_config
from optimizer import adamw, muon

CALM = 0., 0., .5, 1.5
STEPS = 4500
RATE, WARMUP, DECAY = 2e-3, 60, 600          # flat learning rate, then linearly to nothing over the last DECAY steps
MUON = 1600                                   # steps with Muon; AdamW from there on
ROWS = {48: 36, 112: 16, 240: 8, 304: 6, 496: 4}       # positions without the meta tokens: rows of a batch
# First step, shares of the lengths, special documents (see corpus.document): copying, then telling facts apart, then length.
STAGES = [(0, {112: 1}, dict(words=.25, accounts=.35, told=0, kinds=(1, 2, 4))),
          (1000, {112: .6, 240: .4}, dict(words=.05, accounts=.4, told=.03, kinds=(1, 2, 4, 7))),
          (1600, {48: 1}, dict(accounts=1, told=0, kinds=(1,))),
          (1800, {48: .5, 112: .5}, dict(words=.03, accounts=.6, told=0, kinds=(1, 1, 2))),
          (2300, {48: .3, 112: .7}, dict(words=.02, accounts=.5, told=0, kinds=(1, 1, 2, 3))),
          (2700, {48: .15, 112: .5, 304: .35}, dict(words=.02, accounts=.45, told=0, kinds=(1, 2, 3, 7))),
          (3100, {112: .4, 304: .6}, dict(words=.01, accounts=.4, told=.05, kinds=(1, 2, 4, 7), calm=CALM)),
          (3600, {112: .35, 304: .5, 496: .15}, dict(words=.01, accounts=.3, told=.08, kinds=(1, 2, 4, 7), calm=CALM))]
WEIGHT = torch.tensor([0., .1, 1., 3.])       # of a token in the loss, by corpus.UNTRAINED, READ, WRITTEN, ANSWERED
DEV_SEED = 99


def encode_document(tokenizer, pieces, rng):
    """-> ids and the weight class of each."""
    body, begins = pieces[:-1], rng.random() < .5
    classes = np.concatenate([np.full(len(text), kind) for text, kind in body])
    encoded = tokenizer.encode("".join(text for text, _ in body), add_special_tokens=False)
    kinds = [classes[min(max(0, end - 1), len(classes) - 1)] for _, end in encoded.offsets]
    return [1] * begins + encoded.ids + [2], [corpus.UNTRAINED] * begins + kinds + [pieces[-1][1]]


def batch(tokenizer, seed, step, length, special, split="train"):
    """Rows packed with whole documents; what is left at the end of a row is padding."""
    rng = random.Random(f"{seed} {step}")
    ids, kinds = np.zeros((ROWS[length], length + 1), np.int64), np.zeros((ROWS[length], length + 1), np.int64)
    for row in range(ROWS[length]):
        filled, misses = 0, 0
        while misses < 4 and length - filled > 40:
            document, classes = encode_document(tokenizer, corpus.document(rng, (length - filled) * (1 - .15 * misses), split, **special), rng)
            if filled + len(document) > length + 1:
                misses += 1
                continue
            ids[row, filled:filled + len(document)], kinds[row, filled:filled + len(document)] = document, classes
            filled += len(document)
    return torch.from_numpy(ids), torch.from_numpy(kinds)


def stage_of(seed, step):
    """-> the length of this step's rows and its shares of special documents."""
    _, shares, special = max((stage for stage in STAGES if stage[0] <= step), key=lambda stage: stage[0])
    return random.Random(f"{seed} length {step}").choices(list(shares), list(shares.values()))[0], special


def rate_of(step, steps):
    return RATE * min(1, (step + 1) / WARMUP, (steps - step) / DECAY)


def loss_of(model, ids, kinds):
    hidden = model.hidden(ids[:, :-1]).flatten(0, 1)
    target, weight = ids[:, 1:].flatten(), WEIGHT[kinds[:, 1:].flatten()]
    counted = weight > 0
    logits = F.linear(hidden[counted], model.model.embed_tokens.weight).float()
    return (F.cross_entropy(logits, target[counted], reduction="none") * weight[counted]).sum() / weight[counted].sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="run")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--minutes", type=float, default=0, help="save and leave after this time; the next call goes on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ask-every", type=int, default=500, help="steps between two looks at the development questions")
    parser.add_argument("--save-every", type=int, default=100)
    args = parser.parse_args()

    os.makedirs(args.out, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if not os.path.exists(args.out + "/tokenizer.json"):
        tokens.save(tokens.train(), args.out)
    tokenizer = tokens.load(args.out)
    model = Hymba(make_config(tokenizer.get_vocab_size()))
    optimizers = muon(model, RATE)
    checkpoint, step, seconds, seen = args.out + "/checkpoint.pt", 0, 0., 0
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        if saved["step"] > MUON:
            optimizers = adamw(model, RATE)
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        step, seconds, seen = saved["step"], saved["seconds"], saved["tokens"]
    log = open(args.out + "/log.jsonl", "a")

    def say(**values):
        line = json.dumps(values)
        print(line, flush=True)
        print(line, file=log, flush=True)

    say(step=step, parameters=sum(p.numel() for p in model.parameters()), steps=args.steps, seed=args.seed, threads=args.threads)
    questions = corpus.questions(DEV_SEED, 5, lambda text: len(tokens.encode(tokenizer, text)))
    begun, losses = time.time() - seconds, []
    while step < args.steps:
        if step == MUON:
            optimizers = adamw(model, RATE)
        ids, kinds = batch(tokenizer, args.seed, step, *stage_of(args.seed, step))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, ids, kinds)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_of(step, args.steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        step += 1
        seen += ids.shape[0] * (ids.shape[1] - 1)
        seconds = time.time() - begun
        leaving = step == args.steps or (args.minutes and seconds > args.minutes * 60)
        if step % 50 == 0:
            say(step=step, loss=round(sum(losses) / len(losses), 4), rate=round(rate_of(step, args.steps), 6), tokens=seen, minutes=round(seconds / 60, 2))
            losses = []
        if step % args.ask_every == 0 or step == args.steps:
            right = evaluate.ask(model, tokenizer, questions)
            say(step=step, minutes=round((time.time() - begun) / 60, 2), exact=evaluate.share(right),
                by_distance=evaluate.shares(questions, right, "span"), by_kind=evaluate.shares(questions, right, "kind"))
        if step % args.save_every == 0 or leaving:
            seconds = time.time() - begun
            torch.save(dict(model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers], step=step, seconds=seconds, tokens=seen), checkpoint + ".new")
            os.replace(checkpoint + ".new", checkpoint)
        if leaving:
            break


if __name__ == "__main__":
    main()
