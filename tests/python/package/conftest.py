"""Models and what the tests share. PYTHONPATH names the package; --tidemark the tool."""

import json
import subprocess
import sys
import pathlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # eager_judge_test's models


def pytest_addoption(parser):
    parser.addoption("--tidemark", required=True, help="the tool")


@pytest.fixture(scope="session")
def tidemark_tool(request):
    return request.config.getoption("--tidemark")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Block(nn.Module):
    """A residual block with dropout, called with a keyword as Transformers does."""

    def __init__(self, width, dropout=0.1):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, scale=None):
        y = self.dropout(self.down(F.gelu(self.up(self.norm(x)))))
        return x + (y if scale is None else y * scale)


class Chain(nn.Module):
    def __init__(self, blocks=6, width=32, dropout=0.1):
        super().__init__()
        self.embed = nn.Embedding(64, width)
        self.layers = nn.ModuleList([Block(width, dropout) for _ in range(blocks)])
        self.head = nn.Linear(width, 64)

    def forward(self, tokens, targets):
        x = self.embed(tokens)
        scale = torch.ones(1, device=x.device)
        for layer in self.layers:
            x = layer(x, scale=scale)
        return F.cross_entropy(self.head(x).flatten(0, 1), targets.flatten())


def tokens(batch=4, length=64):
    return torch.randint(0, 64, (batch, length)), torch.randint(0, 64, (batch, length))


def groups(count, size, prefix="layers"):
    return [[f"{prefix}.{j}" for j in range(i, min(i + size, count))] for i in range(0, count, size)]


def train_step(model, inputs, seed=1):
    """The loss and every gradient of one step."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    loss = model(*inputs)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters()]


def same(a, b):
    return torch.equal(a[0], b[0]) and all(torch.equal(x, y) for x, y in zip(a[1], b[1]))


def sweep(tool, model_file, folder, *options):
    command = [tool, "sweep", str(model_file), "--partition-activations", "off",
               "--cpu-checkpointing", "off", "--contiguous-memory-optimization", "off",
               "--threads", "1", "--no-execute", "-o", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "sweep.json").read_text())
