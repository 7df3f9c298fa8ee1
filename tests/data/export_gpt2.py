"""Exports the shipped GPT-2: 12 blocks, dropout on, the loss inside; weights without values.

    python export_gpt2.py gpt2.pt2                 # tiny, so that a CPU takes a second a step
    python export_gpt2.py gpt2_small.pt2 small     # the published size, 124 million parameters
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import shipped

WIDTH, HEADS, LAYERS, LENGTH, VOCABULARY, BATCH, DROPOUT = 128, 4, 12, 256, 512, 4, 0.1


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = nn.Linear(WIDTH, 3 * WIDTH)
        self.c_proj = nn.Linear(WIDTH, WIDTH)
        self.resid_dropout = nn.Dropout(DROPOUT)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (
            t.view(batch, length, HEADS, width // HEADS).transpose(1, 2)
            for t in self.c_attn(x).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(
            q, k, v, dropout_p=DROPOUT if self.training else 0.0, is_causal=True
        )
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).reshape(batch, length, width)))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc = nn.Linear(WIDTH, 4 * WIDTH)
        self.act = nn.GELU(approximate="tanh")
        self.c_proj = nn.Linear(4 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x):
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH)
        self.attn = Attention()
        self.ln_2 = nn.LayerNorm(WIDTH)
        self.mlp = Mlp()

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt2(nn.Module):
    """GPT-2 with its language-modelling loss as the only output."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, WIDTH)
        self.wpe = nn.Embedding(LENGTH, WIDTH)
        self.drop = nn.Dropout(DROPOUT)
        self.h = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.ln_f = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens, targets):
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    global WIDTH, HEADS, LENGTH, VOCABULARY, BATCH
    if sys.argv[2:] == ["small"]:
        WIDTH, HEADS, LENGTH, VOCABULARY, BATCH = 768, 12, 1024, 50257, 8
    # Parameters without values keep the file small; the tool makes them from its seed.
    with FakeTensorMode():
        model = Gpt2().train()
        shape = (BATCH, LENGTH)
        tokens = torch.zeros(shape, dtype=torch.int64), torch.ones(shape, dtype=torch.int64)
        program = torch.export.export(model, tokens)
    shipped.save(program, sys.argv[1] if len(sys.argv) > 1 else "gpt2.pt2")


if __name__ == "__main__":
    main()
