"""Models whose blocks are given views: what DeepSpeed empties is the view, while its base lives on."""

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS, WIDTH, LENGTH, BATCH = 12, 32, 256, 8


class Block(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, *parts):
        return torch.cat([part + self.mlp(self.norm(part)) for part in parts], self.joins_along)


class Chain(nn.Module):
    """Blocks of width `width`, each given the views of what the one before it made."""

    def __init__(self, width, hidden, views, joins_along):
        super().__init__()
        self.blocks = nn.ModuleList([Block(width, hidden) for _ in range(BLOCKS)])
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


# name: (width of what a block is given, width inside it, views, dimension along which a block joins
# its parts). Blocks that are wide inside set the peak by what is recomputed, the others by what is
# held at the loss.
CHAINS = {
    "halves": (WIDTH, 4 * WIDTH, lambda x: x.chunk(2, 0), 0),  # contiguous parts
    "columns": (WIDTH // 2, 4 * WIDTH, lambda x: x.chunk(2, -1), -1),  # parts with gaps
    "whole": (WIDTH, 4 * WIDTH, lambda x: [x.view(-1, WIDTH)], 0),
    "transposed": (WIDTH, 4 * WIDTH, lambda x: [x.transpose(0, 1)], 0),
}


def chain(kind):
    torch.manual_seed(0)
    tokens = torch.randint(0, 64, (BATCH, LENGTH))
    model = Chain(*CHAINS[kind])
    return model, (tokens, torch.randint(0, 64, (BATCH, LENGTH))), [(model, "blocks")]


MODELS = {kind: lambda kind=kind: chain(kind) for kind in CHAINS}
