//! Tiny models whose next token follows from the last one alone, as the test says it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::files;

/// ChatML, with line ends between the parts. A reply begins after a line end.
pub const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A llama with one layer that adds nothing: the row of an embedding that is the unit matrix goes to the head as it
/// is, so that a logit is what the table says for the pair of the last token and the next one.
pub struct Scripted {
    tokens: Vec<Token>,
    /// (last, next, logit)
    pairs: Vec<(String, String, f32)>,
    config: Map<String, Value>,
    files: Vec<(String, String)>,
}

struct Token {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of the 256, or a word of them that only a model can choose.
    Bytes,
    /// An added token.
    Added { special: bool },
    /// The same, beyond the rows of the embedding.
    Beyond,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        match self.kind {
            Kind::Bytes => self.text == text.bytes().map(letter).collect::<String>(),
            _ => self.text == text,
        }
    }
}

impl Scripted {
    /// A byte-level tokenizer, ChatML and its two control tokens; `<|im_end|>` ends a text.
    pub fn new() -> Self {
        let tokens = (0..=255).map(|byte| Token { text: letter(byte).to_string(), kind: Kind::Bytes }).collect();
        let this = Self { tokens, pairs: vec![], config: Map::new(), files: vec![] };
        this.file("chat_template.jinja", CHATML).special("<|im_start|>").special("<|im_end|>")
    }

    /// A model with `count` end tokens that chooses the last of them, all of them named in both files, some twice, one of
    /// them beyond the vocabulary.
    pub fn many_ends(count: usize) -> Self {
        let names: Vec<String> = (0..count).map(|i| format!("<|end_{i}|>")).collect();
        let mut model = names.iter().fold(Self::new(), |model, name| model.special(name));
        model = model.says(&["Fine", " weather", &names[count - 1]]);
        // A text that does not end shows.
        model = model.logit(&names[count - 1], " weather", 30.0);
        let mut ids: Vec<usize> = names.iter().map(|name| model.id(name)).collect();
        ids.extend_from_within(..);
        let mut more = ids.clone();
        more.push(99_999);
        model
            .config("eos_token_id", json!(ids))
            .file("generation_config.json", &json!({"eos_token_id": more}).to_string())
    }

    /// Adds a control token.
    pub fn special(self, text: &str) -> Self {
        self.token(text, Kind::Added { special: true })
    }

    /// Adds a token that is found in a text and is no control token.
    pub fn plain(self, text: &str) -> Self {
        self.token(text, Kind::Added { special: false })
    }

    /// Adds such a token without a row of the embedding. No other kind can follow.
    pub fn beyond(self, text: &str) -> Self {
        self.token(text, Kind::Beyond)
    }

    fn token(mut self, text: &str, kind: Kind) -> Self {
        self.tokens.push(Token { text: text.into(), kind });
        self
    }

    /// The tokens by id: a tokenizer numbers its added tokens after the others.
    fn by_id(&self) -> Vec<&Token> {
        let (words, added): (Vec<_>, Vec<_>) = self.tokens.iter().partition(|token| token.kind == Kind::Bytes);
        [words, added].concat()
    }

    /// The id of a token: of an added one, of a word, or of a single byte. It changes with every word that is added.
    pub fn id(&self, text: &str) -> usize {
        let found = self.by_id().iter().position(|token| token.is(text));
        found.unwrap_or_else(|| panic!("there is no token {text:?}"))
    }

    /// After `last`, `next` has this logit; what is not said has 0.
    pub fn logit(mut self, last: &str, next: &str, logit: f32) -> Self {
        self.pairs.push((last.into(), next.into(), logit));
        self
    }

    /// Adds a word.
    pub fn word(self, text: &str) -> Self {
        let letters: String = text.bytes().map(letter).collect();
        self.token(&letters, Kind::Bytes)
    }

    /// After a line end the model says these, one after the other; each is a word, or a token that there is.
    pub fn says(self, reply: &[&str]) -> Self {
        let mut this = self;
        let mut last = "\n";
        for &next in reply {
            if !this.tokens.iter().any(|token| token.is(next)) {
                this = this.word(next);
            }
            this = this.logit(last, next, 30.0);
            last = next;
        }
        this
    }

    /// A field of config.json.
    pub fn config(mut self, field: &str, value: Value) -> Self {
        self.config.insert(field.into(), value);
        self
    }

    /// Another file, or another text of one.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.retain(|(other, _)| other != name);
        self.files.push((name.into(), text.into()));
        self
    }

    /// The folder.
    pub fn write(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        self.write_to(folder.path());
        folder
    }

    /// Fills a folder.
    pub fn write_to(&self, folder: &Path) {
        let rows = self.tokens.iter().filter(|token| token.kind != Kind::Beyond).count();
        let mut config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": rows, "hidden_size": rows,
            "num_hidden_layers": 1, "intermediate_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 4, "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
            "rope_theta": 10000.0, "tie_word_embeddings": false, "eos_token_id": self.id("<|im_end|>"),
        });
        for (field, value) in &self.config {
            config[field] = value.clone();
        }
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("a written file");
        write("config.json", config.to_string().as_bytes());
        write("tokenizer.json", self.tokenizer().to_string().as_bytes());
        write("tokenizer_config.json", br#"{"eos_token": "<|im_end|>"}"#);
        write("model.safetensors", &self.weights(rows));
        self.files.iter().for_each(|(name, text)| write(name, text.as_bytes()));
    }

    fn tokenizer(&self) -> Value {
        let (mut vocabulary, mut added) = (Map::new(), vec![]);
        for (id, token) in self.by_id().into_iter().enumerate() {
            if token.kind == Kind::Bytes {
                vocabulary.insert(token.text.clone(), id.into());
            } else {
                let special = token.kind == Kind::Added { special: true };
                added.push(json!({"id": id, "content": token.text, "special": special, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false}));
            }
        }
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": level, "post_processor": null, "decoder": level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        })
    }

    fn weights(&self, rows: usize) -> Vec<u8> {
        let mut table = vec![0.0_f32; rows * rows];
        let mut head = table.clone();
        (0..rows).for_each(|i| table[i * rows + i] = 1.0);
        // The norm before the head makes a unit vector as long as the root of its width.
        let unit = (rows as f32).sqrt();
        for (last, next, logit) in &self.pairs {
            head[self.id(next) * rows + self.id(last)] = logit / unit;
        }
        let bytes = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        let square = [rows, rows];
        let mut tensors = vec![
            ("model.embed_tokens.weight", square.to_vec(), bytes(&table)),
            ("lm_head.weight", square.to_vec(), bytes(&head)),
        ];
        let norms = [
            "model.norm.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.post_attention_layernorm.weight",
        ];
        tensors.extend(norms.map(|name| (name, vec![rows], bytes(&vec![1.0; rows]))));
        let zeros = [
            ("model.layers.0.self_attn.q_proj.weight", [8, rows]),
            ("model.layers.0.self_attn.k_proj.weight", [4, rows]),
            ("model.layers.0.self_attn.v_proj.weight", [4, rows]),
            ("model.layers.0.self_attn.o_proj.weight", [rows, 8]),
            ("model.layers.0.mlp.gate_proj.weight", [4, rows]),
            ("model.layers.0.mlp.up_proj.weight", [4, rows]),
            ("model.layers.0.mlp.down_proj.weight", [rows, 4]),
        ];
        tensors.extend(zeros.map(|(name, [a, b])| (name, vec![a, b], bytes(&vec![0.0; a * b]))));
        let tensors: Vec<_> =
            tensors.iter().map(|(name, shape, bytes)| (*name, "F32", shape.as_slice(), bytes.clone())).collect();
        files::file(&tensors)
    }
}

/// The letter that stands for a byte in a byte-level vocabulary: itself where it can be seen, else one of those after
/// the first 256 characters, in turn.
fn letter(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if seen(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !seen(other)).count() as u32;
    char::from_u32(256 + before).expect("a letter")
}
