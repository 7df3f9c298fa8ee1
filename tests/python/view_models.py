"""Models whose blocks are given views: what DeepSpeed empties is the view, while its base lives on."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS, WIDTH, LENGTH, BATCH = 12, 32, 256, 8


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, width)
        )

    def forward(self, *parts):
        made = [part + self.mlp(self.norm(part)) for part in parts]
        if self.joins_along is None:
            return functools.reduce(torch.add, made)
        return torch.cat(made, self.joins_along)


class Chain(nn.Module):
    """Blocks of width `width`, each given the views of what the one before it made."""

    def __init__(self, width, views, joins_along):
        super().__init__()
        self.blocks = nn.ModuleList([Block(width) for _ in range(BLOCKS)])
        for block in self.blocks:
            block.joins_along = joins_along
        self.views = views
        self.stem = nn.Embedding(64, WIDTH)
        self.head = nn.Linear(WIDTH, 64)

    def forward(self, tokens, target):
        x = self.stem(tokens)
        for block in self.blocks:
            x = block(*self.views(x))
        return F.cross_entropy(self.head(x).flatten(0, -2), target.flatten())


# name: (width of what a block is given, views, dimension along which a block joins its parts; None:
# it adds them up). Blocks are wide inside, so that what is recomputed sets the peak.
CHAINS = {
    "halves": (WIDTH, lambda x: x.chunk(2, 0), 0),  # contiguous parts
    "columns": (WIDTH // 2, lambda x: x.chunk(2, -1), -1),  # parts with gaps
    "transposed": (WIDTH, lambda x: [x.transpose(0, 1)], 0),
    "whole": (WIDTH, lambda x: [x.view(-1, WIDTH)], 0),
    # Autograd adds up the gradients of both for their base, outside the block, and within it the
    # rows of the second one's for the first.
    "twice": (WIDTH, lambda x: [x.view(-1, WIDTH), x.view(1, -1, WIDTH)], None),
}


def chain(kind):
    torch.manual_seed(0)
    tokens = torch.randint(0, 64, (BATCH, LENGTH))
    model = Chain(*CHAINS[kind])
    return model, (tokens, torch.randint(0, 64, (BATCH, LENGTH))), [(model, "blocks")]


MODELS = {kind: lambda kind=kind: chain(kind) for kind in CHAINS}
