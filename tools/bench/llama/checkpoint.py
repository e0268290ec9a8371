"""Random hybrid models for `compare.py`: one set of numbers, as a folder for Selvedge and as GGUF files for llama.cpp.

Every number is rounded to f16 before anything is written. In the GGUF the vectors, the convolution and the decays are in f32, as
llama.cpp has them, and the matrices as Selvedge has them: all in one format, but embedding and head in q8 where the others are
in q4. No model has a tokenizer: prompts are token ids. Needs `requirements.txt`.
"""

import json
import pathlib
import struct

import gguf
import numpy as np

HIDDEN, VOCABULARY, HEADS, KV_HEADS, HEAD_DIM = 512, 8192, 8, 2, 64
INNER, STATES, MAMBA_HEADS, CONVOLUTION = 1024, 128, 16, 4
CONTEXT = 8192

COMMON = dict(vocab_size=VOCABULARY, hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
              max_position_embeddings=CONTEXT, bos_token_id=1, eos_token_id=2, torch_dtype="float16", attention_bias=False,
              mlp_bias=False)
MAMBA = dict(mamba_n_heads=MAMBA_HEADS, mamba_d_head=INNER // MAMBA_HEADS, mamba_n_groups=1, mamba_d_state=STATES,
             mamba_d_conv=CONVOLUTION, mamba_expand=2, mamba_chunk_size=256, mamba_conv_bias=True, mamba_proj_bias=False)
NO_MULTIPLIERS = dict(embedding_multiplier=1.0, lm_head_multiplier=1.0, key_multiplier=1.0, attention_in_multiplier=1.0,
                      attention_out_multiplier=1.0, ssm_in_multiplier=1.0, ssm_out_multiplier=1.0, mlp_multipliers=[1.0] * 2,
                      ssm_multipliers=[1.0] * 5)

# Config of each model, and its layers: M a Mamba-2 mixer, * attention, - a feed-forward part; what stands together shares
# a layer, in parallel where both M and * do.
MODELS = {
    "falcon_h1": (COMMON | MAMBA | NO_MULTIPLIERS | dict(
        model_type="falcon_h1", architectures=["FalconH1ForCausalLM"], num_hidden_layers=12, intermediate_size=1280,
        head_dim=HEAD_DIM, rms_norm_eps=1e-5, rope_theta=1e5, mamba_d_ssm=INNER, mamba_rms_norm=False,
        mamba_norm_before_gate=False, projectors_bias=False, tie_word_embeddings=False, hidden_act="silu"),
        ["M*-"] * 12),
    "nemotron_h": (COMMON | dict(
        model_type="nemotron_h", architectures=["NemotronHForCausalLM"], num_hidden_layers=12, intermediate_size=2048,
        hybrid_override_pattern="M-M*-M-M*-M-", head_dim=HEAD_DIM, layer_norm_epsilon=1e-5, mamba_num_heads=MAMBA_HEADS,
        mamba_head_dim=INNER // MAMBA_HEADS, n_groups=1, ssm_state_size=STATES, conv_kernel=CONVOLUTION, expand=2,
        chunk_size=256, use_conv_bias=True, use_bias=False, mamba_proj_bias=False, mlp_hidden_act="relu2",
        mamba_hidden_act="silu", tie_word_embeddings=False),
        list("M-M*-M-M*-M-")),
    "granite_h": (COMMON | MAMBA | dict(
        model_type="granitemoehybrid", architectures=["GraniteMoeHybridForCausalLM"], num_hidden_layers=12,
        layer_types=["attention" if index in (4, 10) else "mamba" for index in range(12)], position_embedding_type="nope",
        intermediate_size=1536, shared_intermediate_size=1536, num_local_experts=0, num_experts_per_tok=0, rms_norm_eps=1e-5,
        rope_theta=10000.0, rope_scaling=None, embedding_multiplier=2.0, attention_multiplier=0.125, residual_multiplier=0.6,
        logits_scaling=1.5, tie_word_embeddings=True, hidden_act="silu"),
        ["*-" if index in (4, 10) else "M-" for index in range(12)]),
}
# Names of a layer's tensors in a checkpoint, by their names in a GGUF.
MIXER = {"ssm_in.weight": "in_proj.weight", "ssm_conv1d.weight": "conv1d.weight", "ssm_conv1d.bias": "conv1d.bias",
         "ssm_dt.bias": "dt_bias", "ssm_a": "A_log", "ssm_d": "D", "ssm_norm.weight": "norm.weight",
         "ssm_out.weight": "out_proj.weight"}
ATTENTION = {"attn_q.weight": "q_proj.weight", "attn_k.weight": "k_proj.weight", "attn_v.weight": "v_proj.weight",
             "attn_output.weight": "o_proj.weight"}
ARCHITECTURES = {"falcon_h1": "falcon-h1", "nemotron_h": "nemotron_h", "granitemoehybrid": "granitehybrid"}
FORMATS = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16,
           "q8": gguf.GGMLQuantizationType.Q8_0, "q4": gguf.GGMLQuantizationType.Q4_0}


class Numbers:
    """Random tensors: in a checkpoint's names and shapes, and in a GGUF's."""

    def __init__(self):
        self.random = np.random.default_rng(1)
        self.checkpoint, self.gguf = {}, {}

    def draw(self, kind: str, *shape: int) -> np.ndarray:
        """Numbers of a size that makes every part of the model matter."""
        match kind:
            case "decay":
                numbers = self.random.uniform(-1.0, 1.5, shape)
            case "step":
                numbers = self.random.uniform(-4.0, 0.5, shape)
            case "norm":
                numbers = self.random.normal(1.0, 0.2, shape)
            case "bias":
                numbers = self.random.normal(0.0, 0.2, shape)
            case "convolution":
                numbers = self.random.normal(0.0, 0.5, shape)
            case "embedding":
                numbers = self.random.normal(0.0, 0.7, shape)
            # A tied table that outweighs the layers says each token again.
            case "tied":
                numbers = self.random.normal(0.0, 0.25, shape)
            case "matrix":
                numbers = self.random.normal(0.0, 1.6 * shape[-1] ** -0.5, shape)
        return numbers.astype(np.float16)

    def add(self, ours: str, theirs: str, kind: str, *shape: int) -> np.ndarray:
        """A tensor that is the same in both."""
        numbers = self.draw(kind, *shape)
        self.checkpoint[ours] = self.gguf[theirs] = numbers
        return numbers


def mixer(numbers: Numbers, ours: str, theirs: str, normed: bool) -> None:
    """A Mamba-2 mixer."""
    channels = INNER + 2 * STATES
    kinds = {"ssm_in.weight": ("matrix", INNER + channels + MAMBA_HEADS, HIDDEN),
             "ssm_conv1d.weight": ("convolution", channels, 1, CONVOLUTION), "ssm_conv1d.bias": ("bias", channels),
             "ssm_dt.bias": ("step", MAMBA_HEADS), "ssm_a": ("decay", MAMBA_HEADS), "ssm_d": ("norm", MAMBA_HEADS),
             "ssm_norm.weight": ("norm", INNER), "ssm_out.weight": ("matrix", HIDDEN, INNER)}
    if not normed:
        del kinds["ssm_norm.weight"]
    for name, (kind, *shape) in kinds.items():
        added = numbers.add(ours + MIXER[name], theirs + name, kind, *shape)
        match name:
            case "ssm_conv1d.weight":
                numbers.gguf[theirs + name] = added.reshape(channels, CONVOLUTION)
            case "ssm_a":
                numbers.gguf[theirs + name] = -np.exp(added.astype(np.float32)).reshape(-1, 1)
            case "ssm_d":
                numbers.gguf[theirs + name] = added.reshape(-1, 1)
            case "ssm_norm.weight":
                numbers.gguf[theirs + name] = added.reshape(1, INNER)


def draw(config: dict, layers: list[str]) -> Numbers:
    """All tensors of a model."""
    numbers, kind, wide = Numbers(), config["model_type"], config["intermediate_size"]
    nemotron, falcon, tied = kind == "nemotron_h", kind == "falcon_h1", config["tie_word_embeddings"]
    root = "backbone." if nemotron else "model."
    table = "embeddings.weight" if nemotron else "embed_tokens.weight"
    numbers.add(root + table, "token_embd.weight", "tied" if tied else "embedding", VOCABULARY, HIDDEN)
    for index, parts in enumerate(layers):
        ours, theirs = f"{root}layers.{index}.", f"blk.{index}."
        numbers.add(ours + ("norm.weight" if nemotron else "input_layernorm.weight"), theirs + "attn_norm.weight", "norm", HIDDEN)
        if "M" in parts:
            mixer(numbers, ours + ("mixer." if nemotron else "mamba."), theirs, normed=not falcon)
        if "*" in parts:
            rows = dict(attn_q=HEADS * HEAD_DIM, attn_k=KV_HEADS * HEAD_DIM, attn_v=KV_HEADS * HEAD_DIM, attn_output=HIDDEN)
            for name, own in ATTENTION.items():
                columns = HEADS * HEAD_DIM if "output" in name else HIDDEN
                before = ours + ("mixer." if nemotron else "self_attn.")
                numbers.add(before + own, theirs + name, "matrix", rows[name.split(".")[0]], columns)
        if "-" not in parts:
            continue
        if nemotron:
            numbers.add(ours + "mixer.up_proj.weight", theirs + "ffn_up.weight", "matrix", wide, HIDDEN)
            numbers.add(ours + "mixer.down_proj.weight", theirs + "ffn_down.weight", "matrix", HIDDEN, wide)
        elif falcon:
            # Named without `.weight`, by llama.cpp too.
            numbers.add(ours + "pre_ff_layernorm.weight", theirs + "ffn_norm", "norm", HIDDEN)
            for name in ("gate", "up"):
                numbers.add(f"{ours}feed_forward.{name}_proj.weight", f"{theirs}ffn_{name}.weight", "matrix", wide, HIDDEN)
            numbers.add(ours + "feed_forward.down_proj.weight", theirs + "ffn_down.weight", "matrix", HIDDEN, wide)
        else:
            numbers.add(ours + "post_attention_layernorm.weight", theirs + "ffn_norm.weight", "norm", HIDDEN)
            both = numbers.draw("matrix", 2 * wide, HIDDEN)
            numbers.checkpoint[ours + "shared_mlp.input_linear.weight"] = both
            numbers.gguf[theirs + "ffn_gate.weight"], numbers.gguf[theirs + "ffn_up.weight"] = both[:wide], both[wide:]
            numbers.add(ours + "shared_mlp.output_linear.weight", theirs + "ffn_down.weight", "matrix", HIDDEN, wide)
    last = {"nemotron_h": "norm_f.weight", "falcon_h1": "final_layernorm.weight"}.get(kind, "norm.weight")
    numbers.add(root + last, "output_norm.weight", "norm", HIDDEN)
    if not tied:
        numbers.add("lm_head.weight", "output.weight", "matrix", VOCABULARY, HIDDEN)
    return numbers


def write_checkpoint(folder: pathlib.Path, config: dict, tensors: dict[str, np.ndarray]) -> None:
    """The folder that Selvedge reads."""
    header, at = {}, 0
    for name, numbers in tensors.items():
        header[name] = dict(dtype="F16", shape=list(numbers.shape), data_offsets=[at, at + numbers.nbytes])
        at += numbers.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for numbers in tensors.values():
            file.write(numbers.tobytes())
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def pack(numbers: np.ndarray, weights: str) -> np.ndarray:
    """Numbers in a GGUF's format. Scales and codes are those of Selvedge's `absmax`: both programs hold the same numbers."""
    if weights in ("f32", "f16"):
        return numbers.astype(np.float32 if weights == "f32" else np.float16)
    groups = numbers.reshape(-1, 32)
    scales = (np.abs(groups).max(axis=1, keepdims=True) / np.float32(127 if weights == "q8" else 7)).astype(np.float16)
    codes = np.rint(groups / scales.astype(np.float32)).astype(np.int8)
    if weights == "q4":
        codes = np.clip(codes, -8, 7) + 8
        # A byte holds two numbers that are 16 apart.
        codes = codes[:, :16] | codes[:, 16:] << 4
    blocks = np.concatenate([scales.view(np.uint8), codes.view(np.uint8)], axis=1)
    return blocks.reshape(numbers.shape[0], -1)


def write_gguf(path: pathlib.Path, config: dict, layers: list[str], tensors: dict[str, np.ndarray], weights: str) -> None:
    """The file that llama.cpp reads."""
    kind = config["model_type"]
    writer = gguf.GGUFWriter(path, ARCHITECTURES[kind])
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(VOCABULARY)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(len(layers))
    writer.add_head_count(HEADS)
    # Which layers are recurrent is told by these two lists.
    attends = [KV_HEADS if "*" in parts else 0 for parts in layers]
    feeds = [config["intermediate_size"] if "-" in parts else 0 for parts in layers]
    writer.add_head_count_kv(KV_HEADS if all(attends) else attends)
    writer.add_feed_forward_length(feeds[0] if all(feeds) else feeds)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    epsilon = config.get("rms_norm_eps", config.get("layer_norm_epsilon"))
    writer.add_layer_norm_rms_eps(epsilon)
    writer.add_layer_norm_eps(epsilon)
    writer.add_ssm_conv_kernel(CONVOLUTION)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATES)
    writer.add_ssm_time_step_rank(MAMBA_HEADS)
    writer.add_ssm_group_count(1)
    if kind == "falcon_h1":
        writer.add_rope_freq_base(config["rope_theta"])
    else:
        writer.add_rope_scaling_finetuned(False)
    if kind == "granitemoehybrid":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    for name, numbers in tensors.items():
        matrix = numbers.ndim == 2 and name.endswith(".weight") and "ssm_conv1d" not in name and "norm" not in name
        numbers = numbers.astype(np.float32)
        stored = weights if matrix else "f32"
        # Selvedge keeps embedding and head in 8 bits at least.
        if weights == "q4" and name in ("token_embd.weight", "output.weight"):
            stored = "q8"
        writer.add_tensor(name, pack(np.ascontiguousarray(numbers), stored), raw_dtype=FORMATS[stored])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(folder: pathlib.Path, model: str, weights: str) -> int:
    """Writes FOLDER/config.json, model.safetensors and WEIGHTS.gguf of a model. Returns its parameters."""
    config, layers = MODELS[model]
    folder.mkdir(parents=True, exist_ok=True)
    numbers = draw(config, layers)
    write_checkpoint(folder, config, numbers.checkpoint)
    write_gguf(folder / f"{weights}.gguf", config, layers, numbers.gguf, weights)
    return sum(one.size for one in numbers.checkpoint.values())
