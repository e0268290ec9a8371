"""Tiny tokenizers of the kinds that GGUF names, trained on a few sentences of our own, and texts to try them on."""

import json
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# Of each kind: the golden whose config names the model, the expressions that cut a text, whether a text begins with a token of
# its own, whether a whole word that is a token is one without merges, and whether a text is brought to its composed form.
KINDS = {
    "gpt-2": ("llama", None, False, False, False),
    "llama-bpe": ("llama", LLAMA3, True, True, False),
    "qwen2": ("qwen2", QWEN2, False, False, True),
    "qwen35": ("qwen3_5", QWEN35, False, False, True),
    "falcon-h1": ("falcon_h1", LLAMA3, True, True, False),
    "lfm2": ("lfm2", LLAMA3, True, True, False),
    "refact": ("granite_rope", "digits", False, False, False),
    "dbrx": ("granite_h", LLAMA3, False, False, False),
    "tekken": ("llama", TEKKEN, True, True, False),
    "pixtral": ("nemotron_h", LLAMA3, True, True, False),
}
# What GGUF calls `llama`: pieces with scores, and bytes for what is none.
PIECES = "llama"

SENTENCES = """The selvedge is the edge of a cloth that keeps it from coming apart, woven back on itself.
A loom has a warp and a weft: the warp is held, and the weft goes over and under it, again and again.
Here's what we're told: it isn't hard, they've done it, I'll do it, and you'd better not ask who's there.
In 1804 a loom was told by 24000 cards what to weave; by 1836 there were 7000 of those looms in one city.
def weave(warp, weft):\n    for thread in warp:\n        yield thread + weft[0]\n    return None
Die Webkante hält das Gewebe zusammen. La lisière empêche le tissu de s'effilocher. Кромка ткани не осыпается.
The threads, the threads; the cards, the cards! (What there is of them.) Is there more? There is.
while (count < 128) { count += step; }  // until the whole cloth is done
"""

TEXTS = [
    "", " ", "  ", "   x", "x   ", "\n", "\n\n", "\n \n", "\r\n", "a\r\nb", "\t\tx", " \t \n \t y", "a\n\n\nb", "a \n b", "end\n",
    "the", "The", " the", "thethe", "the the the", "The selvedge is the edge of a cloth.", "LOOMS AND CARDS", "camelCaseWord", "snake_case_word",
    "HTTPServer2Go", "iPhone15ProMax", "e.g. this, i.e. that", "isn't", "ISN'T", "Isn'T it? I'LL, We'Ve, they'RE", "it's 'quoted' it''s", "'s 't 're", "'S x'D",
    "1", "12", "123", "1234", "12345", "1234567890", "3.14159", "1,000,000", "x1y22z333", "2026-11-30", "0x1F", "١٢٣٤", "½ ² Ⅷ", "１２３４",
    "def weave(warp, weft):\n    for thread in warp:\n        yield thread\n", "if (a<=b&&c!=d){return a->b;}", "x = [1,2,3];  y={'a':1}", "a/b//c\\d", "//// ////\n", "path/to\n/", "#include <stdio.h>\n\n\tint main() {}\n",
    "<div class=\"a\">&amp;</div>", "SELECT * FROM t WHERE a='b';", "http://example.org/a?b=c&d=e#f", "me@example.org", "$100 + 5% = €105", "~`!@#$%^&*()-_=+[]{}|;:,.<>?",
    "------======", "...", "…", "!!!???", "a - b – c — d", "«guillemets» “quotes”", "Grüße aus Köln", "naïve café", "ﬁne", "ẞ", "Привет, мир!", "ΑΒΓ αβγ",
    "日本語のテキスト", "我想在apple工作1314151天", "한국어 문장", "ภาษาไทย", "हिन्दी में", "العربية", "עברית", "កាន់តែពិសេស", "e\u0301te\u0301", "A\u030angstro\u0308m", "q\u0307\u0323", "\u1e9b\u0323",
    "😀", "😶\u200d🌫️", "👩‍👩‍👧 family", "🇩🇪🇫🇷", "a😀b 😀 c", "\u00a0x\u00a0y", "\u2003em\u3000wide", "zero\u200bwidth", "\ufeffbom", "𝔘𝔫𝔦 𝒄𝒐𝒅𝒆", "Ǆ ǅ ǆ",
    "<|start|>user\nHello<|end|>", "a<|end|>b", "<|start|><|start|>", " <|end|> ", "<|unknown|>", "<think>\nWhy?\n</think>\n\nSo.", "a <think> b", "<s>x</s>", "<|start|", "start|>",
    "The loom   has  two\n\n\n  spaces\tand a tab .", "mixed Ελληνικά und русский 123abc456 日本",
]


def bytes_of(kind, folder):
    """A byte-level tokenizer of a kind, as a folder that transformers reads; and the ids of the texts."""
    _golden, cut, first, whole, composed = KINDS[kind]
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    # By its own expression, or by what comes before.
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut in (None, "digits"))
    before = {None: [], "digits": [pre_tokenizers.Digits(individual_digits=True)]}.get(cut)
    before = [pre_tokenizers.Split(Regex(cut), behavior="isolated")] if before is None else before
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, level]) if before else level
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(text, special=True, normalized=False) for text in ("<|start|>", "<|end|>", "<|endoftext|>")]
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(SENTENCES.splitlines(keepends=True), trainer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if first:
        start = processors.TemplateProcessing(single="<|start|> $A", pair="<|start|> $A $B", special_tokens=[("<|start|>", 0)])
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, start])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    names = dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="<|end|>", pad_token="<|endoftext|>", add_bos_token=first)
    (folder / "tokenizer_config.json").write_text(json.dumps(names | (dict(bos_token="<|start|>") if first else {})))
    return tokenizer.get_vocab_size(), [tokenizer.encode(text).ids for text in TEXTS]


def pieces(folder):
    """A tokenizer of SentencePiece, as a folder that transformers reads; the ids of the texts by transformers' conversion of it,
    with the normalizer that published files have in place of version 5's, and by SentencePiece itself."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES.splitlines()), model_prefix=str(folder / "tokenizer"), model_type="bpe", vocab_size=420,
        byte_fallback=True, character_coverage=1.0, split_digits=True, allow_whitespace_only_pieces=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, num_threads=1, minloglevel=2)
    (folder / "tokenizer.vocab").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(
        tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True, add_eos_token=False, legacy=False)))
    tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return own.get_piece_size(), [tokenizer.encode(text).ids for text in TEXTS], [[own.bos_id(), *own.encode(text)] for text in TEXTS]
