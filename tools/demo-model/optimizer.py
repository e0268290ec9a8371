"""The two optimizers of the run: AdamW, and Muon for the weight matrices of the layers with AdamW for the rest.

Muon steps along the orthogonalised momentum of a matrix; its step is scaled so that its
size per entry is like that of AdamW and both share one learning rate.
"""
import torch

SIZE = .6                         # of an entry's step, in learning rates
MATRICES = ("in_proj.weight", "out_proj.weight", "gate_proj.weight", "up_proj.weight", "down_proj.weight", "x_proj.0.weight")


def orthogonalise(x, steps=5):
    """Newton-Schulz iteration on a stack of matrices: all singular values go to about 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.float()
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=.95, weight_decay=.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():           # matrices of one shape go through together
                directions = []
                for p in params:
                    momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    momentum.lerp_(p.grad, 1 - group["momentum"])
                    directions.append(p.grad.lerp(momentum, group["momentum"]))
                updates = orthogonalise(torch.stack(directions))
                for p, update in zip(params, updates):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-SIZE * max(shape) ** .5 * group["lr"])


def muon(model, lr):
    matrices, tables, vectors = [], [], []
    for name, p in model.named_parameters():
        (matrices if name.endswith(MATRICES) else tables if "embed" in name or "memory" in name else vectors).append(p)
    return [Muon(matrices, lr), torch.optim.AdamW([dict(params=tables, weight_decay=.02), dict(params=vectors, weight_decay=0.)], lr=lr, betas=(.9, .98), fused=True)]


def adamw(model, lr):
    matrices, vectors = [], []
    for name, p in model.named_parameters():
        (matrices if p.dim() == 2 and "A_log" not in name else vectors).append(p)
    return [torch.optim.AdamW([dict(params=matrices, weight_decay=.05), dict(params=vectors, weight_decay=0.)], lr=lr, betas=(.9, .98), fused=True)]
