"""The three operations that decide the training speed on a CPU, each with a plain torch twin.

`conv_silu`: causal depthwise convolution and SiLU. `gated_scan`: selective scan, D skip and
SiLU(z) gate. `rms` and `mean_of_rms`: RMS norms. On a CPU with a C++ compiler they run from
scan.cpp (compiled on first use), elsewhere in torch; `python kernels.py` compares the two.
"""
import ctypes
import os
import subprocess

import torch
import torch.nn.functional as F

CHUNK = 64                        # scan.cpp keeps the state at every 64th step and recomputes the rest backwards
LANES = 16


def _compile():
    here = os.path.dirname(os.path.abspath(__file__))
    source, library = here + "/scan.cpp", here + "/scan.so"
    if not os.path.exists(library) or os.path.getmtime(library) < os.path.getmtime(source):
        subprocess.check_call(["g++", "-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC", source, "-o", library])
    return ctypes.CDLL(library)


try:
    _lib = _compile()
except (OSError, subprocess.CalledProcessError) as error:
    print("no C kernels, slower torch code instead:", error)
    _lib = None


def compiled(x):
    return _lib is not None and x.device.type == "cpu"


def _call(name, *args):
    """Tensors go as pointers, floats as C floats, ints of a pair ("long", n) as C longs."""
    convert = {torch.Tensor: lambda t: ctypes.c_void_p(t.data_ptr()), float: ctypes.c_float, int: ctypes.c_int, tuple: lambda p: ctypes.c_long(p[1]), type(None): lambda _: None}
    getattr(_lib, name)(*[convert[torch.Tensor if isinstance(a, torch.Tensor) else type(a)](a) for a in args])


def _stride(x):
    return ("long", x.stride(1))


# --- plain torch -------------------------------------------------------------------------
def scan_stepwise(dt, x, B, C, A, D):
    """The definition, step by step. dt, x [b,T,E]; B, C [b,T,N]; A [E,N] (negative); D [E]."""
    state = x.new_zeros(x.shape[0], x.shape[2], A.shape[1])
    out = []
    for t in range(x.shape[1]):
        state = torch.exp(dt[:, t, :, None] * A) * state + (dt[:, t] * x[:, t])[..., None] * B[:, t, None]
        out.append((state * C[:, t, None]).sum(-1) + D * x[:, t])
    return torch.stack(out, 1)


def scan_chunked(dt, x, B, C, A, D, size=32):
    """The same in T/size + size steps: all chunks advance together from zero, then the chunk ends are carried on."""
    T = x.shape[1]
    dt_, x_, B_, C_ = (F.pad(t, (0, 0, 0, -T % size)).unflatten(1, (-1, size)) for t in (dt, x, B, C))
    chunks = dt_.shape[1]
    state = x.new_zeros(x.shape[0], chunks, x.shape[2], A.shape[1])
    within = []
    for i in range(size):
        state = torch.exp(dt_[:, :, i, :, None] * A) * state + (dt_ * x_)[:, :, i, :, None] * B_[:, :, i, None]
        within.append(torch.einsum("bken,bkn->bke", state, C_[:, :, i]))
    passed = dt_.cumsum(2)
    decay = torch.exp(passed[:, :, -1, :, None] * A)
    carry = [torch.zeros_like(state[:, 0])]
    for k in range(chunks - 1):
        carry.append(decay[:, k] * carry[-1] + state[:, k])
    carry = torch.stack(carry, 1)
    before = [torch.einsum("bken,bkn->bke", torch.exp(passed[:, :, i, :, None] * A) * carry, C_[:, :, i]) for i in range(size)]
    return (torch.stack(within, 2) + torch.stack(before, 2)).flatten(1, 2)[:, :T] + D * x


def torch_rms(x, w, eps):
    return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def torch_conv_silu(u, w, b):
    return F.silu(F.conv1d(F.pad(u.transpose(1, 2), (w.shape[2] - 1, 0)), w, b, groups=w.shape[0]).transpose(1, 2))


# --- scan.cpp as autograd functions ---------------------------------------------------------
class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, w, b):    # u [b,T,E], last stride 1; w [E,1,K]
        n, T, E = u.shape
        taps = w[:, 0].t().contiguous()
        out = torch.empty(n, T, E)
        _call("conv_fwd", n, T, E, taps.shape[0], u, _stride(u), taps, b, out)
        ctx.save_for_backward(u, taps, b)
        return out

    @staticmethod
    def backward(ctx, g):
        u, taps, b = ctx.saved_tensors
        n, T, E = u.shape
        g = g.contiguous()
        du, dw, db = torch.empty(n, T, E), torch.empty(n, taps.shape[0], E), torch.empty(n, E)
        _call("conv_bwd", n, T, E, taps.shape[0], u, _stride(u), taps, b, g, du, ("long", E), dw, db)
        return du, dw.sum(0).t().unsqueeze(1), db.sum(0)


class _GatedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, raw, bias, x, B, C, A, D, z):
        n, T, E = x.shape
        N = B.shape[-1]
        assert N == 16 and E % LANES == 0
        raw, B, C = raw.contiguous(), B.contiguous(), C.contiguous()
        lanes = A.view(E // LANES, LANES, N).transpose(1, 2).contiguous()
        out, states = torch.empty(n, T, E), torch.empty(n, (T + CHUNK - 1) // CHUNK, E, N)
        _call("scan_fwd", n, T, E, raw, bias, x, B, C, lanes, D, z, _stride(z), out, states)
        ctx.save_for_backward(raw, bias, x, B, C, lanes, D, z, states)
        return out

    @staticmethod
    def backward(ctx, g):
        raw, bias, x, B, C, lanes, D, z, states = ctx.saved_tensors
        n, T, E = x.shape
        N = B.shape[-1]
        g = g.contiguous()
        draw, dx, dz = (torch.empty(n, T, E) for _ in range(3))
        dB, dC = torch.empty_like(B), torch.empty_like(B)
        dA, dD, dbias = torch.empty(n, E // LANES, N, LANES), torch.empty(n, E), torch.empty(n, E)
        _call("scan_bwd", n, T, E, raw, bias, x, B, C, lanes, D, z, _stride(z), states, g, draw, dx, dB, dC, dz, ("long", E), dA, dD, dbias)
        return draw, dbias.sum(0), dx, dB, dC, dA.sum(0).transpose(1, 2).reshape(E, N), dD.sum(0), dz


class _Rms(torch.autograd.Function):
    """scale * (rms(x1) w1 [+ rms(x2) w2])"""
    @staticmethod
    def forward(ctx, x1, w1, x2, w2, scale, eps):
        x1, x2 = x1.contiguous(), None if x2 is None else x2.contiguous()
        E = x1.shape[-1]
        rows = x1.numel() // E
        out, inverse = torch.empty(x1.shape), torch.empty(2, rows)
        _call("rms_fwd", rows, E, int(x2 is not None), x1, w1, x2, w2, scale, eps, out, inverse)
        ctx.save_for_backward(x1, w1, x2, w2, inverse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx, g):
        x1, w1, x2, w2, inverse = ctx.saved_tensors
        g = g.contiguous()
        E = x1.shape[-1]
        rows, parts, grads = x1.numel() // E, 16, []
        for x, w, inv in ((x1, w1, inverse[0]), (x2, w2, inverse[1])):
            if x is None:
                grads += [None, None]
                continue
            dx, dw = torch.empty_like(x), torch.empty(parts, E)
            _call("rms_bwd", rows, E, parts, x, w, ctx.scale, inv, g, dx, dw)
            grads += [dx, dw.sum(0)]
        return (*grads, None, None)


# --- what the model uses --------------------------------------------------------------------
def rms(x, w, eps):
    x = x.float()
    return _Rms.apply(x, w, None, None, 1.0, eps) if compiled(x) else torch_rms(x, w, eps)


def mean_of_rms(x1, w1, x2, w2, eps):
    return _Rms.apply(x1, w1, x2, w2, .5, eps) if compiled(x1) else (torch_rms(x1, w1, eps) + torch_rms(x2, w2, eps)) / 2


def conv_silu(u, w, b):
    return _ConvSilu.apply(u, w, b) if compiled(u) else torch_conv_silu(u, w, b)


def gated_scan(raw, bias, x, B, C, A, D, z):
    """raw: time steps before bias and softplus."""
    if compiled(x):
        return _GatedScan.apply(raw, bias, x, B, C, A, D, z)
    return scan_chunked(F.softplus(raw + bias), x, B, C, A, D) * F.silu(z)


def check():
    """Values and all gradients of every version against the definition in float64."""
    torch.manual_seed(0)
    n, T, E, N, eps = 2, 150, 48, 16, 1e-6
    g = torch.randn(n, T, E)

    def compare(name, inputs, reference, candidates):
        def run(f, dtype):
            leaves = [t.to(dtype).clone().requires_grad_() for t in inputs]
            y = f(*leaves)
            y.backward(g.to(dtype))
            return [y] + [t.grad for t in leaves]
        wanted = run(reference, torch.float64)
        for label, f in candidates.items():
            worst = max(float(((a.double() - b).abs().max() / b.abs().max()).detach()) for a, b in zip(run(f, torch.float32), wanted))
            print(f"{name:10} {label:8} worst relative error {worst:.1e}")
            assert worst < 1e-5

    def torch_scan(scan):
        return lambda raw, bias, x, B, C, A, D, z: scan(F.softplus(raw + bias), x, B, C, -torch.exp(A), D) * F.silu(z)
    scan_inputs = [torch.randn(n, T, E), torch.randn(E) * .5 - 2, torch.randn(n, T, E), torch.randn(n, T, N), torch.randn(n, T, N),
                   torch.randn(E, N) * .5, torch.randn(E), torch.randn(n, T, E)]
    compare("gated_scan", scan_inputs, torch_scan(scan_stepwise), {
        "chunked": torch_scan(scan_chunked), "used": lambda raw, bias, x, B, C, A, D, z: gated_scan(raw, bias, x, B, C, -torch.exp(A), D, z)})
    compare("conv_silu", [torch.randn(n, T, E), torch.randn(E, 1, 4), torch.randn(E)], torch_conv_silu, {"used": conv_silu})
    compare("rms", [torch.randn(n, T, E), torch.randn(E)], lambda x, w: torch_rms(x, w, eps), {"used": lambda x, w: rms(x, w, eps)})
    compare("two rms", [torch.randn(n, T, E), torch.randn(E), torch.randn(n, T, E), torch.randn(E)],
            lambda a, b, c, d: (torch_rms(a, b, eps) + torch_rms(c, d, eps)) / 2, {"used": lambda a, b, c, d: mean_of_rms(a, b, c, d, eps)})


if __name__ == "__main__":
    check()
