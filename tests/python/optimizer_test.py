"""The optimizer phase calls what torch.optim calls: the operators of the recorded step against the
profiler's list of torch.optim's own step, and their number and order.

    optimizer_test.py --tidemark build/release/tidemark --output DIR
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 4)

    def forward(self, x, labels):
        return F.cross_entropy(self.second(F.relu(self.first(x))), labels)


class Calls(TorchDispatchMode):
    """Every operator below autograd that makes or changes a tensor's bytes."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p),
    "sgd:foreach": lambda p: torch.optim.SGD(p, foreach=True),
    "sgd:fused": lambda p: torch.optim.SGD(p, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p),
    "adamw:loop": lambda p: torch.optim.AdamW(p, foreach=False, fused=False),
    "adamw:foreach": lambda p: torch.optim.AdamW(p, foreach=True),
    "adamw:fused": lambda p: torch.optim.AdamW(p, fused=True),
}
# Views, and how a number becomes a tensor, are no work on the states; the profiler's marks neither.
UNLISTED = {"aten::detach", "aten::view", "aten::view_as_real", "aten::item", "aten::alias",
            "aten::_local_scalar_dense", "aten::scalar_tensor", "aten::lift_fresh",
            "profiler::_record_function_enter_new", "profiler::_record_function_exit"}


def torch_calls(make, model, inputs):
    optimizer = make(model.parameters())
    for _ in range(2):  # the second step finds the states in place
        optimizer.zero_grad()
        model(*inputs).backward()
        with Calls() as calls:
            optimizer.step()
    return [name for name in calls.names if name not in UNLISTED]


def recorded_calls(tidemark, path, optimizer, trace):
    command = [tidemark, "record", path, "--optimizer", optimizer, "-o", trace]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    with gzip.open(trace) as file:
        ops = json.load(file)["ops"]
    return [op["name"] for op in ops if op["phase"] == "optimizer" and op["name"] not in UNLISTED]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tidemark", required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    inputs = torch.randn(8, 8), torch.randint(0, 4, (8,))
    path = arguments.output / "model.pt2"
    torch.export.save(torch.export.export(Model().train(), inputs), path)
    passed = failed = 0
    for name, make in OPTIMIZERS.items():
        theirs = torch_calls(make, Model(), inputs)
        ours = recorded_calls(arguments.tidemark, path, name, arguments.output / "step.json.gz")
        agrees = ours == theirs and len(ours) > 0
        passed, failed = passed + agrees, failed + (not agrees)
        print(f"{name}: {len(ours)} operators, torch.optim {len(theirs)}{'' if agrees else ' FAILED'}")
        if not agrees:
            print("  ours  ", ours[:20])
            print("  theirs", theirs[:20])
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
