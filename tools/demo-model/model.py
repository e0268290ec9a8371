"""Hymba in PyTorch: attention and a state space model side by side in every layer.

Parameters carry the names of the official checkpoint. Positions count the meta tokens.
A local layer sees the meta tokens, itself and the W tokens before it; a global layer sees
everything before it. A layer in a KV group uses the keys and values of the group's first.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from kernels import conv_silu, gated_scan, mean_of_rms, rms, torch_rms


def make_config(vocab):
    hidden, layers, heads, groups = 128, 7, 4, [[1, 2], [4, 5]]
    return dict(
        architectures=["HymbaForCausalLM"], model_type="hymba",
        auto_map={"AutoConfig": "configuration_hymba.HymbaConfig", "AutoModelForCausalLM": "modeling_hymba.HymbaForCausalLM"},
        attention_dropout=0.0, attn_hidden_size=-1, attn_implementation="flex", attn_implementation_new="flex",
        bos_token_id=1, eos_token_id=2, pad_token_id=0, calc_logits_for_entire_prompt=False,
        conv_dim={str(i): 2 * hidden for i in range(layers)}, global_attn_idx=[0, 3, 6], hidden_act="silu", mlp_hidden_act="silu",
        hidden_size=hidden, initializer_range=0.02, intermediate_size=384, kq_head_dim=-1, v_head_dim=2 * hidden // heads, kq_norm="none",
        kv_reuse_every_i_layer=-1, kv_reuse_group=groups, kv_weight_reuse=False, layer_type=["h"] * layers,
        mamba_conv_bias=True, mamba_d_conv=4, mamba_d_state=16, mamba_dt_rank=8, mamba_expand=2, mamba_inner_layernorms=True, mamba_proj_bias=False,
        max_position_embeddings=2048, orig_max_position_embeddings=512, memory_tokens_interspersed_every=0,
        num_attention_heads=heads, num_key_value_heads=2, num_experts=1, num_experts_per_tok=1, num_hidden_layers=layers,
        num_mamba=1, num_memory_tokens=16, output_router_logits=False, rms_norm_eps=1e-6, rope=True, rope_theta=10000.0, rope_type="ntk",
        router_aux_loss_coef=0.001, seq_length=2048, sliding_window=64, tie_word_embeddings=True, torch_dtype="float32",
        use_cache=False, use_mamba_kernels=True, vocab_size=vocab)


class Holder(nn.Module):
    """Modules and parameters under given names."""
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def param(*shape):
    return nn.Parameter(torch.empty(*shape))


def weight(*shape):
    return Holder(weight=param(*shape))


class Hymba(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.hidden_size, self.layers = config["hidden_size"], config["num_hidden_layers"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.inner = config["mamba_expand"] * self.hidden_size
        self.key_width, self.value_width = self.hidden_size // self.heads, self.inner // self.heads
        self.meta, self.window, self.eps = config["num_memory_tokens"], config["sliding_window"], config["rms_norm_eps"]
        self.rank, self.states = config["mamba_dt_rank"], config["mamba_d_state"]
        self.kv_source = list(range(self.layers))
        for group in config["kv_reuse_group"]:
            for layer in group:
                self.kv_source[layer] = group[0]
        self.global_layers = set(config["global_attn_idx"])
        self.model = Holder(embed_tokens=weight(config["vocab_size"], self.hidden_size), memory_tokens=param(self.meta, self.hidden_size),
                            final_layernorm=weight(self.hidden_size), layers=nn.ModuleList(self._layer(i) for i in range(self.layers)))
        base = config["rope_theta"]
        if config["rope_type"] == "ntk":
            stretch = 2 * config["max_position_embeddings"] / config["orig_max_position_embeddings"] - 1
            base *= stretch ** (self.key_width / (self.key_width - 2))
        self.frequencies = 1.0 / base ** (torch.arange(0, self.key_width, 2).float() / self.key_width)
        self.tables = {}
        self.init()

    def _layer(self, i):
        H, E, F_ = self.hidden_size, self.inner, self.config["intermediate_size"]
        rows = H + 2 * E + (self.kv_heads * (self.key_width + self.value_width) if self.kv_source[i] == i else 0)
        mamba = Holder(
            in_proj=weight(rows, H), conv1d=Holder(weight=param(E, 1, self.config["mamba_d_conv"]), bias=param(E)),
            x_proj=nn.ModuleList([weight(self.rank + 2 * self.states, E)]), dt_proj=nn.ModuleList([Holder(weight=param(E, self.rank), bias=param(E))]),
            A_log=nn.ParameterList([param(E, self.states)]), D=nn.ParameterList([param(E)]),
            dt_layernorm=weight(self.rank), B_layernorm=weight(self.states), C_layernorm=weight(self.states),
            pre_avg_layernorm1=weight(E), pre_avg_layernorm2=weight(E), out_proj=weight(H, E))
        expert = Holder(gate_proj=weight(F_, H), up_proj=weight(F_, H), down_proj=weight(H, F_))
        return Holder(input_layernorm=weight(H), mamba=mamba, pre_moe_layernorm=weight(H), moe=Holder(experts=nn.ModuleList([expert])))

    @torch.no_grad()
    def init(self):
        """Large tied embeddings keep the identity of a word visible in the residual stream, so copying is found
        soon; a small final norm keeps the logits near 1 all the same."""
        for name, p in self.named_parameters():
            if "layernorm" in name or name.endswith("D.0"):
                p.fill_(.2 if "final" in name else 1.0)
            elif name.endswith("A_log.0"):
                p.copy_(torch.log(torch.arange(1, self.states + 1).float()).expand_as(p))
            elif name.endswith("dt_proj.0.bias"):          # softplus(bias) is log-uniform in [.001, .1]
                dt = torch.exp(torch.rand_like(p) * (math.log(.1) - math.log(.001)) + math.log(.001))
                p.copy_(dt + torch.log(-torch.expm1(-dt)))
            elif name.endswith("dt_proj.0.weight"):
                p.uniform_(-self.rank ** -.5, self.rank ** -.5)
            elif name.endswith("conv1d.weight"):
                p.uniform_(-.5, .5)
            elif name.endswith("bias"):
                p.zero_()
            elif "embed" in name or "memory" in name:
                p.normal_(0, .5)
            else:
                into_residual = "out_proj" in name or "down_proj" in name
                p.normal_(0, .6 * p.shape[1] ** -.5 / (math.sqrt(2 * self.layers) if into_residual else 1))
        for i, layer in enumerate(self.model.layers):      # livelier queries and keys: matching by content is found sooner
            rows = self.hidden_size + (self.kv_heads * self.key_width if self.kv_source[i] == i else 0)
            layer.mamba.in_proj.weight[:rows] *= 1.6

    # --- attention -----------------------------------------------------------------------
    def table(self, name, make, *key):
        if (name, *key) not in self.tables:
            self.tables[(name, *key)] = make(*key)
        return self.tables[(name, *key)]

    def _rotation(self, T, device):
        angles = torch.arange(T).float()[:, None] * self.frequencies[None]
        return angles.cos()[None, :, None].to(device), angles.sin()[None, :, None].to(device)

    def _local_bias(self, batch, T, dtype, device):
        """Additive mask [batch * blocks * kv heads, queries of a block, meta + two blocks of keys]."""
        W, M, blocks = self.window, self.meta, T // self.window
        block = torch.arange(blocks)[:, None, None]
        i = block * W + torch.arange(W)[None, :, None]
        j = torch.cat([torch.arange(M).expand(blocks, M), (torch.arange(blocks)[:, None] - 1) * W + torch.arange(2 * W)[None]], 1)[:, None]
        is_meta_column = (torch.arange(M + 2 * W) < M)[None, None]
        seen = (j <= i) & (j >= 0) & ((i - j <= W) | (j < M)) & (~is_meta_column | (block >= 2))   # early blocks hold the meta tokens themselves
        bias = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
        per_kv = self.heads // self.kv_heads
        return bias[None, :, None, None].expand(batch, -1, self.kv_heads, per_kv, -1, -1).reshape(-1, per_kv * W, M + 2 * W).to(device)

    def _causal_bias(self, Q, T, dtype, device):
        """Additive mask [query heads per kv head * Q, T] of the last Q of T positions."""
        bias = torch.zeros(Q, T, dtype=dtype)
        bias[:, T - Q:] = torch.full((Q, Q), float("-inf"), dtype=dtype).triu(1)
        return bias.repeat(self.heads // self.kv_heads, 1).to(device)

    def _rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)

    def _local(self, q, k, v):
        """Blocks of W queries against the meta tokens, the block before and their own."""
        n, T = q.shape[:2]
        W, M, blocks, per_kv = self.window, self.meta, T // self.window, self.heads // self.kv_heads

        def columns(t):
            t = t.view(n, blocks, W, self.kv_heads, -1)
            before = F.pad(t, (0, 0, 0, 0, 0, 0, 1, 0))[:, :blocks]
            return torch.cat([t[:, :1, :M].expand(-1, blocks, -1, -1, -1), before, t], 2)
        keys = columns(k).permute(0, 1, 3, 4, 2).flatten(0, 2)
        values = columns(v).transpose(2, 3).flatten(0, 2)
        queries = q.view(n, blocks, W, self.kv_heads, per_kv, self.key_width).permute(0, 1, 3, 4, 2, 5).reshape(-1, per_kv * W, self.key_width)
        bias = self.table("local", self._local_bias, n, T, q.dtype, q.device)
        y = torch.baddbmm(bias, queries * self.key_width ** -.5, keys).softmax(-1) @ values.to(q.dtype)
        return y.view(n, blocks, self.kv_heads, per_kv, W, self.value_width).permute(0, 1, 4, 2, 3, 5).reshape(n, T, self.inner)

    def _global(self, q, k, v):
        """Blocks of queries against everything up to the block's end."""
        n, T = q.shape[:2]
        per_kv, pairs = self.heads // self.kv_heads, n * self.kv_heads
        Q = 128 if T % 128 == 0 else self.window
        queries = (q * self.key_width ** -.5).view(n, T // Q, Q, self.kv_heads, per_kv, self.key_width)
        queries = queries.permute(1, 0, 3, 4, 2, 5).reshape(T // Q, pairs, per_kv * Q, self.key_width)
        keys, values = k.permute(0, 2, 3, 1).reshape(pairs, self.key_width, T), v.transpose(1, 2).reshape(pairs, T, self.value_width).to(q.dtype)
        out = []
        for block in range(T // Q):
            end = (block + 1) * Q
            bias = self.table("causal", self._causal_bias, Q, T, q.dtype, q.device)[:, T - end:].expand(pairs, -1, -1)
            y = torch.baddbmm(bias, queries[block], keys[:, :, :end]).softmax(-1) @ values[:, :end]
            out.append(y.view(n, self.kv_heads, per_kv, Q, self.value_width).permute(0, 3, 1, 2, 4))
        return torch.cat(out, 1).reshape(n, T, self.inner)

    # --- layers ----------------------------------------------------------------------------
    def _mixer(self, i, x, kv, rotation):
        layer = self.model.layers[i]
        m, H, E = layer.mamba, self.hidden_size, self.inner
        rows = F.linear(rms(x, layer.input_layernorm.weight, self.eps), m.in_proj.weight)
        q = self._rotate(rows[..., :H].unflatten(-1, (self.heads, self.key_width)), *rotation)
        if self.kv_source[i] == i:
            k_width = self.kv_heads * self.key_width
            k = rows[..., H:H + k_width].unflatten(-1, (self.kv_heads, self.key_width))
            v = rows[..., H + k_width:-2 * E].unflatten(-1, (self.kv_heads, self.value_width))
            kv[i] = self._rotate(k, *rotation), v
        attend = self._global if i in self.global_layers else self._local
        attended = attend(q, *kv[self.kv_source[i]]).float()
        u, z = rows[..., -2 * E:-E].float(), rows[..., -E:].float()
        a = conv_silu(u, m.conv1d.weight, m.conv1d.bias)
        dt, B, C = F.linear(a, m.x_proj[0].weight).float().split([self.rank, self.states, self.states], -1)
        raw = F.linear(torch_rms(dt, m.dt_layernorm.weight, self.eps), m.dt_proj[0].weight).float()
        scanned = gated_scan(raw, m.dt_proj[0].bias, a, torch_rms(B, m.B_layernorm.weight, self.eps), torch_rms(C, m.C_layernorm.weight, self.eps),
                             -torch.exp(m.A_log[0]), m.D[0], z)
        return F.linear(mean_of_rms(attended, m.pre_avg_layernorm1.weight, scanned, m.pre_avg_layernorm2.weight, self.eps), m.out_proj.weight)

    def hidden(self, ids):
        """ids [b,S] -> final-normed rows of the real tokens [b,S,H]."""
        x = torch.cat([self.model.memory_tokens.expand(len(ids), -1, -1), F.embedding(ids, self.model.embed_tokens.weight)], 1)
        end = x.shape[1]
        x = F.pad(x, (0, 0, 0, -end % self.window))        # what is padded on the right is seen by no earlier row
        rotation, kv = self.table("rotation", self._rotation, x.shape[1], x.device), {}
        for i, layer in enumerate(self.model.layers):
            x = x + self._mixer(i, x, kv, rotation)
            expert, h = layer.moe.experts[0], rms(x, layer.pre_moe_layernorm.weight, self.eps)
            x = x + F.linear(F.silu(F.linear(h, expert.gate_proj.weight)) * F.linear(h, expert.up_proj.weight), expert.down_proj.weight)
        return rms(x, self.model.final_layernorm.weight, self.eps)[:, self.meta:end]

    def forward(self, ids):
        return F.linear(self.hidden(ids), self.model.embed_tokens.weight).float()
