"""The demo model's tokenizer, trained on its own corpus.

The pipeline is that of Hymba's tokenizer: BPE with byte fallback, U+2581 put in front, no
pre-tokenizer, `<unk>` 0, `<s>` 1, `</s>` 2, chat markers as ordinary text. Training splits
at words, so no piece ever crosses a word; without the splitting the result is the same.

`python tokenizer.py OUT` writes the tokenizer's files and prints which words are not one token.
"""
import json
import os
import random
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import corpus

VOCAB = 1023                      # odd on purpose, like the 32001 of the real model
BOOST = 2000                      # how often the answer words are shown on their own
SPECIAL = ["<unk>", "<s>", "</s>"]
CHAT_TEMPLATE = (
    "{{'<extra_id_0>System'}}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{'\n' + message['content'].strip()}}{% endif %}{% endfor %}{{'\n\n'}}"
    "{% for message in messages %}{% if message['role'] == 'user' %}{{'<extra_id_1>User\n' + message['content'].strip() + '\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<extra_id_1>Assistant\n' + message['content'].strip() + '\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{'<extra_id_1>Assistant\n'}}{% endif %}")
ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?'\"-()<>_/"


def training_texts(documents=6000):
    rng = random.Random(12345)
    texts = ["".join(t for t, _ in corpus.document(rng, 400, told=.2, calm=(0., .5)) if t not in SPECIAL) for _ in range(documents)]
    # Answers begin with a bare name; and the rarer answer words shall be one token too.
    return texts + ["\n" + "\n".join(corpus.NAMES)] * BOOST + [" ".join(corpus.CONTENT)] * BOOST + [ALPHABET + " " + " ".join(ALPHABET)] * 3


def train():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|▁?<extra_id_[01]>|▁?[A-Za-z]+|▁?[0-9]|▁?[^A-Za-z0-9\n]"), "isolated")
    byte_pieces = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB + 1, special_tokens=SPECIAL + byte_pieces, show_progress=False, min_frequency=2)
    tokenizer.train_from_iterator(training_texts(), trainer)
    parts = json.loads(tokenizer.to_str())
    vocab = parts["model"]["vocab"]
    hole = vocab.pop("\n")        # a newline is a byte piece, as in Llama's file; ids stay dense
    parts["model"]["vocab"] = {piece: i - (i > hole) for piece, i in vocab.items()}
    parts["pre_tokenizer"] = None
    parts["added_tokens"] = [dict(id=i, content=c, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
                             for i, c in enumerate(SPECIAL)]
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    assert tokenizer.get_vocab_size() == VOCAB
    return tokenizer


def save(tokenizer, out):
    os.makedirs(out, exist_ok=True)
    tokenizer.save(out + "/tokenizer.json")
    names = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>")
    added = {str(i): dict(content=c, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True) for i, c in enumerate(SPECIAL)}
    config = dict(tokenizer_class="PreTrainedTokenizerFast", **names, add_bos_token=True, add_eos_token=False, clean_up_tokenization_spaces=False,
                  model_max_length=2048, padding_side="left", chat_template=CHAT_TEMPLATE, added_tokens_decoder=added)
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", names)):
        with open(f"{out}/{name}", "w") as file:
            json.dump(content, file, indent=1)


def load(folder):
    return Tokenizer.from_file(folder + "/tokenizer.json")


def encode(tokenizer, text):
    """Ids of a chat text: as the chat template, without `<s>`."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def main(out):
    tokenizer = train()
    save(tokenizer, out)
    sample = corpus.system(random.Random(1)) + corpus.USER + "One foggy day, Nora went to the farm. Zürich 42?\n" + corpus.ASSISTANT + "Hi"
    assert tokenizer.decode(tokenizer.encode(sample).ids) == sample
    split = [w for w in corpus.CONTENT if len(encode(tokenizer, "a " + w)) > 2]
    bare = [n for n in corpus.NAMES if len(encode(tokenizer, "\n" + n)) > 3]
    print(f"not one token: {split}; names not one token at the start of a line: {bare}")


if __name__ == "__main__":
    main(sys.argv[1])
