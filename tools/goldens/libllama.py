"""llama.cpp's C interface, as far as `ggufs.py` needs it: logits, token ids and the quantiser of a built library.

The structures are those of `llama.h` of llama.cpp 0.5.0; a library of another version may lay them out otherwise.
"""

import ctypes
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_float, c_int, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np

F32 = 0
SILENT = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


class ModelParams(Structure):
    _fields_ = [("devices", c_void_p), ("tensor_buft_overrides", c_void_p), ("n_gpu_layers", c_int32), ("split_mode", c_int),
                ("load_mode", c_int), ("lazy_mode", c_int), ("main_gpu", c_int32), ("tensor_split", c_void_p),
                ("progress_callback", c_void_p), ("progress_callback_user_data", c_void_p), ("kv_overrides", c_void_p),
                ("vocab_only", c_bool), ("check_tensors", c_bool), ("use_extra_bufts", c_bool), ("no_host", c_bool),
                ("no_alloc", c_bool), ("load_mtp", c_bool)]


class ContextParams(Structure):
    _fields_ = [("n_ctx", c_uint32), ("n_batch", c_uint32), ("n_ubatch", c_uint32), ("n_seq_max", c_uint32), ("n_rs_seq", c_uint32),
                ("n_outputs_max", c_uint32), ("n_outputs_max_per_seq", c_uint32), ("n_threads", c_int32),
                ("n_threads_batch", c_int32), ("ctx_type", c_int), ("rope_scaling_type", c_int), ("pooling_type", c_int),
                ("attention_type", c_int), ("flash_attn_type", c_int), ("rope_freq_base", c_float), ("rope_freq_scale", c_float),
                ("yarn_ext_factor", c_float), ("yarn_attn_factor", c_float), ("yarn_beta_fast", c_float),
                ("yarn_beta_slow", c_float), ("yarn_orig_ctx", c_uint32), ("defrag_thold", c_float), ("cb_eval", c_void_p),
                ("cb_eval_user_data", c_void_p), ("type_k", c_int), ("type_v", c_int), ("abort_callback", c_void_p),
                ("abort_callback_data", c_void_p), ("embeddings", c_bool), ("offload_kqv", c_bool), ("no_perf", c_bool),
                ("op_offload", c_bool), ("swa_full", c_bool), ("kv_unified", c_bool), ("samplers", c_void_p),
                ("n_samplers", c_size_t), ("ctx_other", c_void_p)]


class QuantizeParams(Structure):
    _fields_ = [("nthread", c_int32), ("ftype", c_int), ("output_tensor_type", c_int), ("token_embedding_type", c_int),
                ("allow_requantize", c_bool), ("quantize_output_tensor", c_bool), ("only_copy", c_bool), ("pure", c_bool),
                ("keep_split", c_bool), ("dry_run", c_bool), ("imatrix", c_void_p), ("kv_overrides", c_void_p),
                ("tt_overrides", c_void_p), ("prune_layers", c_void_p), ("max_buf_size", c_size_t)]


class Batch(Structure):
    _fields_ = [("n_tokens", c_int32), ("token", POINTER(c_int32)), ("embd", POINTER(c_float)), ("pos", POINTER(c_int32)),
                ("n_seq_id", POINTER(c_int32)), ("seq_id", POINTER(POINTER(c_int32))), ("logits", POINTER(c_int8))]


class Llama:
    """The library of a folder of built binaries."""

    def __init__(self, folder):
        folder = Path(folder)
        # By its whole name first: what depends on it then finds it loaded.
        ggml = next(folder.glob("libggml.*so*"))
        ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
        backends = ctypes.CDLL(str(ggml), ctypes.RTLD_GLOBAL)
        self.calls = calls = ctypes.CDLL(str(next(folder.glob("libllama.*so*"))), ctypes.RTLD_GLOBAL)
        for name, result, arguments in [
            ("llama_model_default_params", ModelParams, []),
            ("llama_context_default_params", ContextParams, []),
            ("llama_model_quantize_default_params", QuantizeParams, []),
            ("llama_model_load_from_file", c_void_p, [c_char_p, ModelParams]),
            ("llama_init_from_model", c_void_p, [c_void_p, ContextParams]),
            ("llama_model_get_vocab", c_void_p, [c_void_p]),
            ("llama_vocab_n_tokens", c_int32, [c_void_p]),
            ("llama_batch_init", Batch, [c_int32, c_int32, c_int32]),
            ("llama_batch_free", None, [Batch]),
            ("llama_decode", c_int32, [c_void_p, Batch]),
            ("llama_get_logits_ith", POINTER(c_float), [c_void_p, c_int32]),
            ("llama_tokenize", c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
            ("llama_model_quantize", c_uint32, [c_char_p, c_char_p, POINTER(QuantizeParams)]),
            ("llama_free", None, [c_void_p]),
            ("llama_model_free", None, [c_void_p]),
        ]:
            call = getattr(calls, name)
            call.restype, call.argtypes = result, arguments
        self.said = []
        self.listener = SILENT(lambda _level, text, _data: self.said.append(text))
        calls.llama_log_set(self.listener, None)
        calls.llama_backend_init()
        backends.ggml_backend_load_all_from_path(str(folder).encode())

    def load(self, file, vocabulary=False):
        params = self.calls.llama_model_default_params()
        params.vocab_only, params.load_mtp = vocabulary, False
        model = self.calls.llama_model_load_from_file(str(file).encode(), params)
        if not model:
            raise RuntimeError(f"{file}: " + b"".join(self.said[-4:]).decode(errors="replace"))
        return model

    def logits(self, file, ids):
        """Of every row of a prompt, in one batch, with keys and values in f32 and without flash attention."""
        model = self.load(file)
        params = self.calls.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 512, 512, 512
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = F32
        params.flash_attn_type = 0
        context = self.calls.llama_init_from_model(model, params)
        if not context:
            raise RuntimeError(f"{file}: " + b"".join(self.said[-4:]).decode(errors="replace"))
        batch = self.calls.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for row, token in enumerate(ids):
            batch.token[row], batch.pos[row], batch.n_seq_id[row], batch.logits[row] = int(token), row, 1, 1
            batch.seq_id[row][0] = 0
        failed = self.calls.llama_decode(context, batch)
        if failed:
            raise RuntimeError(f"{file}: llama_decode says {failed}")
        width = self.calls.llama_vocab_n_tokens(self.calls.llama_model_get_vocab(model))
        rows = [np.ctypeslib.as_array(self.calls.llama_get_logits_ith(context, row), (width,)).copy() for row in range(len(ids))]
        self.calls.llama_batch_free(batch)
        self.calls.llama_free(context)
        self.calls.llama_model_free(model)
        return np.stack(rows)

    def tokens(self, file, texts, special=True):
        """Ids of texts, tokens that are no text among them recognised; with `special`, what the model adds around a text."""
        model = self.load(file, vocabulary=True)
        vocabulary = self.calls.llama_model_get_vocab(model)
        ids = []
        for text in texts:
            raw = text.encode()
            room = (c_int32 * (len(raw) + 8))()
            count = self.calls.llama_tokenize(vocabulary, raw, len(raw), room, len(room), special, True)
            if count < 0:
                raise RuntimeError(f"{text!r}: llama_tokenize wants room for {-count}")
            ids.append(list(room[:count]))
        self.calls.llama_model_free(model)
        return ids

    def quantize(self, file, target, ftype, pure=False):
        params = self.calls.llama_model_quantize_default_params()
        params.nthread, params.ftype, params.pure = 1, ftype, pure
        failed = self.calls.llama_model_quantize(str(file).encode(), str(target).encode(), byref(params))
        if failed:
            raise RuntimeError(f"{target}: " + b"".join(self.said[-4:]).decode(errors="replace"))
