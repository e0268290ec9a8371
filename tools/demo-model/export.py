"""Writes a trained run as a model folder: `python export.py RUN assets/demo`.

bfloat16 weights, the configuration, the tokenizer, and greedy.json: prompts with the greedy
ids of exactly these rounded weights in float32 arithmetic and the smallest distance between
the two best logits on the way. Another implementation should find the same ids wherever
that distance is not tiny.
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file

import corpus
import generate
import tokenizer as tokens
from model import make_config

PARK = ("One sunny day Lucy visited the park. Lucy had a kite. The kite was green. There Lucy met Hugo. Hugo found seven shells. Then Lucy gave the kite to Hugo. "
        "Hugo ate some bread. Suddenly Lucy saw a fox. Then they went home together.")
LONG = ("One warm day Nora visited the castle. Nora carried a drum. The drum was purple. " + PARK + " Ella saw a swan. Adam ate some cheese. Later Leo found forty coins. "
        "Mia met Finn. The sun was high in the sky. Then Anna visited the bridge. Sam had a boat. The boat was white. Sam gave the boat to Clara. Paul found nine eggs. "
        "For lunch Ivy ate some rice. Zoe saw a wolf. Ben carried a lamp. Then Omar visited the mill. On the way Noah met Sara. Emma saw a deer. One quiet day Adam visited the lake.")


def greedy_cases():
    """name -> user messages; the answers in between are the model's own."""
    cases = {"hello": ["Hello."], "who": ["Who are you?"], "thanks": ["Thank you!"], "tell": ["Tell me a story."], "tell about": ["Tell me a story about Ben and Mia."],
             "continue": ["Continue this story. One windy day Noah visited the hill. Noah had a flute."], "story first": [PARK, "What colour is the kite?", "Who has the kite now?"]}
    near = {"colour": "What colour is the kite?", "met": "Who did Lucy meet?", "holder": "Who has the kite now?", "how many": "How many shells did Hugo find?",
            "food": "What did Hugo eat?", "animal": "What animal did Lucy see?"}
    far = {"far place": "Where did Nora go?", "far colour": "What color is the drum?", "far food": "What did Ivy eat?", "far number": "How many shells did Hugo find?",
           "far holder": "Who has the kite now?", "far animal": "What animal did Ella see?", "far met": "Who did Mia meet?"}
    return cases | {name: [PARK + "\n" + question] for name, question in near.items()} | {name: [LONG + "\n" + question] for name, question in far.items()}


def write_json(path, content):
    with open(path, "w") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")


def main(run, out):
    os.makedirs(out, exist_ok=True)
    tokenizer = tokens.load(run)
    weights = torch.load(run + "/checkpoint.pt", weights_only=True)["model"]
    save_file({name: tensor.bfloat16().contiguous() for name, tensor in weights.items()}, out + "/model.safetensors", metadata={"format": "pt"})
    write_json(out + "/config.json", dict(make_config(tokenizer.get_vocab_size()), torch_dtype="bfloat16"))
    write_json(out + "/generation_config.json", dict(bos_token_id=1, eos_token_id=2, pad_token_id=0, use_cache=False))
    tokens.save(tokenizer, out)

    model, tokenizer = generate.load(out)
    cases = []
    for name, messages in greedy_cases().items():
        text = "<extra_id_0>System\nYou are a helpful assistant.\n\n"
        for message in messages:
            text += corpus.USER + message + "\n" + corpus.ASSISTANT
            ids = tokens.encode(tokenizer, text)
            new, gap = generate.greedy(model, ids, 160)
            reply = tokenizer.decode(new, skip_special_tokens=True)
            case = dict(name=name, prompt=text, ids=ids, greedy=new, text=reply, min_gap=round(gap, 4))
            text += reply + "\n"
        cases.append(case)
    write_json(out + "/greedy.json", cases)
    for case in cases:
        print(f"{case['name']:12} gap {case['min_gap']:<8} {case['text']}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2])
