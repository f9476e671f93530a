"""PyTorch on the processor as a peer: answers requests as serve.ts does.

Products, softmax and so on are ATen's; a block is written as timm writes it. Models have weights of
their own, since times do not depend on values; only their time is compared.
"""

import json
import os
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

MARK = "@bench "


def answer(**line):
    print(MARK + json.dumps(line), flush=True)


def operand(shape, index):
    """As operand() of workloads.ts: a multiplicative hash of the position, over [-1, 1]."""
    mask = 0xFFFFFFFF
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)

    def multiply(x, y):
        # 32 bits of a product that would overflow 64.
        low, high = y & 0xFFFF, y >> 16
        return (x * low + ((x * high & 0xFFFF) << 16)) & mask

    x = multiply((i + 1 + index * 0x10001) & mask, 0x9E3779B1)
    x = multiply(x ^ (x >> 15), 0x85EBCA6B)
    x = x ^ (x >> 13)
    return (x.double() / 2**31 - 1).float().reshape(shape)


def excerpt(values):
    flat = values.detach().reshape(-1)
    step = max(1, flat.numel() // 1009)
    return flat[: flat.numel() // step * step : step].tolist()


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def blocks(width, depth, heads):
    return nn.Sequential(*[Block(width, heads) for _ in range(depth)], nn.LayerNorm(width, 1e-6))


class Head(nn.Module):
    def __init__(self, width, hidden, bottleneck, prototypes):
        super().__init__()
        self.mlp = nn.Sequential(
            *[nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()],
            nn.Linear(hidden, bottleneck),
        )
        self.last = nn.Linear(bottleneck, prototypes, bias=False)

    def forward(self, x):
        return self.last(F.normalize(self.mlp(x), dim=-1))


class Encoder(nn.Module):
    def __init__(self, g):
        super().__init__()
        self.patch = g["patchSize"]
        self.embed = nn.Linear(self.patch**2, g["width"])
        self.token = nn.Parameter(torch.zeros(1, 1, g["width"]))
        self.blocks = blocks(g["width"], g["depth"], g["heads"])

    def tokens(self, x):
        batch, bands, frames = x.shape
        p = self.patch
        x = x[..., : frames // p * p].reshape(batch, bands // p, p, frames // p, p)
        return self.embed(x.permute(0, 1, 3, 2, 4).reshape(batch, -1, p * p))

    def forward(self, tokens):
        return self.blocks(torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1))


class Student(nn.Module):
    def __init__(self, g):
        super().__init__()
        self.encoder = Encoder(g)
        self.enter = nn.Linear(g["width"], g["predictorWidth"])
        self.mask = nn.Parameter(torch.zeros(1, 1, g["predictorWidth"]))
        self.predictor = blocks(g["predictorWidth"], g["predictorDepth"], g["predictorHeads"])
        self.leave = nn.Linear(g["predictorWidth"], g["width"])
        self.head = Head(*[g[name] for name in ("width", "headHidden", "bottleneck", "prototypes")])


def pick(x, index):
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def update(g, shape):
    """An update as bench/step.ts counts it."""
    batch = shape[0]
    student = Student(g)
    teacher = nn.ModuleList([Encoder(g), Head(*[g[n] for n in
                            ("width", "headHidden", "bottleneck", "prototypes")])])
    followed = list(teacher[0].parameters()) + list(teacher[1].parameters())
    own = list(student.encoder.parameters()) + list(student.head.parameters())
    optimizer = torch.optim.AdamW(student.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.05)
    x = torch.randn(shape)
    patches = (shape[1] // g["patchSize"]) * (shape[2] // g["patchSize"])
    # As visibleCount: the masked ones are rounded down.
    visible = patches - int(patches * g["maskRatio"])
    order = torch.rand(batch, patches).argsort(1)
    seen, hidden = order[:, :visible], order[:, visible:]
    back = order.argsort(1)

    def run():
        with torch.no_grad():
            target = teacher[0](pick(teacher[0].tokens(x), hidden))[:, 1:]
            wanted = (teacher[1](target) / 0.05).softmax(-1)
            target = F.normalize(target, dim=-1)
        y = student.enter(student.encoder(pick(student.encoder.tokens(x), seen)))
        rest = student.mask.expand(batch, patches - visible, -1)
        y = torch.cat([y[:, :1], pick(torch.cat([y[:, 1:], rest], 1), back)], 1)
        y = student.leave(pick(student.predictor(y)[:, 1:], hidden))
        loss = 2 - 2 * (F.normalize(y, dim=-1) * target).sum(-1).mean()
        loss = loss - (wanted * (student.head(y) / 0.1).log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 3)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_(followed, 0.99)
            torch._foreach_add_(followed, own, alpha=0.01)

    return run


def embed(g, shape):
    encoder = Encoder(g).eval()
    x = torch.randn(shape)

    def run():
        with torch.inference_mode():
            return encoder(encoder.tokens(x))

    return run


def computation(workload):
    """What a workload repeats, and whether its results can be compared."""
    op = workload["op"]
    if op == "update":
        return update(workload["geometry"], workload["shapes"][0]), False
    if op == "embed":
        return embed(workload["geometry"], workload["shapes"][0]), False
    xs = [operand(shape, i) for i, shape in enumerate(workload["shapes"])]
    with_gradient = workload.get("backward", False)

    def attention(q, k, v):
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v

    def gradients():
        leaves = [x.detach().requires_grad_() for x in xs[:3]]
        attention(*leaves).backward(xs[3])
        return [leaf.grad for leaf in leaves]

    def chain(x, y):
        part = (x * y + x) * 0.5 - y
        return x / (part * part + 1).sqrt()

    forms = {
        "matmul": lambda: [xs[0] @ xs[1]],
        "add": lambda: [xs[0] + xs[1]],
        "chain": lambda: [chain(*xs)],
        "softmax": lambda: [(xs[0] / workload.get("temperature", 1)).softmax(-1)],
        "layernorm": lambda: [F.layer_norm(xs[0], xs[1].shape, xs[1], xs[2], 1e-6)],
        "attention": gradients if with_gradient else lambda: [attention(*xs[:3])],
    }
    return forms.get(op), True


def sample(run, minimum_ms):
    def timed(rounds):
        start = time.perf_counter()
        for _ in range(rounds):
            run()
        return (time.perf_counter() - start) * 1000

    timed(1)
    first = max(1e-3, timed(1))
    rounds = min(64, max(1, -int(-minimum_ms // first)))
    return timed(rounds) / rounds


def blas():
    """The library that products come from: the reference one is 20 times slower than others."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {os.path.realpath(line.split()[-1]) for line in maps if "/" in line}
    except OSError:
        return "BLAS unknown"
    names = {os.path.basename(path) for path in paths}
    return ", ".join(sorted(n for n in names if "blas" in n or "mkl" in n)) or "BLAS built in"


def main():
    torch.set_num_threads(os.cpu_count() or 1)
    run = None
    answer(ready=f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {blas()}")
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "sample":
            answer(ms=sample(run, request["minimumMs"]))
            continue
        run, comparable = computation(request["workload"])
        if run is None:
            answer(unsupported="no such op")
        elif comparable:
            answer(results=[excerpt(x) for x in run()])
        else:
            answer(results=[])


main()
