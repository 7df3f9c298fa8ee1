"""The optimizer phase calls what torch.optim calls: the operators of the recorded step against the
profiler's list of torch.optim's own step, and their number and order. On the CPU and on a phantom GPU,
where the peak of the step must be torch.optim's too.

    optimizer_test.py --tidemark build/release/tidemark --output DIR
"""

import argparse
import gzip
import json
import pathlib
import shutil
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from judged import exit_status, parse_arguments

WIDTH = 1024  # so that the optimizer sets the peak of the step
PEAK_TOLERANCE = 0.001


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)

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


def recorded_calls(tidemark, path, optimizer, trace, device):
    command = [tidemark, "record", path, "--optimizer", optimizer, "--device", device, "-o", trace]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    with gzip.open(trace) as file:
        ops = json.load(file)["ops"]
    return [op["name"] for op in ops if op["phase"] == "optimizer" and op["name"] not in UNLISTED]


def steady_peak(make, model, inputs):
    optimizer = make(model.parameters())
    for _ in range(3):
        torch.cuda.reset_peak_memory_stats()
        optimizer.zero_grad()
        loss = model(*inputs)
        loss.backward()
        optimizer.step()
    return torch.cuda.max_memory_allocated()


def predicted_peak(tidemark, trace, folder):
    command = [tidemark, "sweep", trace, "--no-execute", "--number-checkpoints", "none", "-o", folder]
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    [row] = json.loads((folder / "sweep.json").read_text())["rows"]
    return row["predicted"]["allocated_peak_bytes"]


def sample_inputs(device="cpu"):
    torch.manual_seed(0)
    return torch.randn(8, 8, device=device), torch.randint(0, 4, (8,), device=device)


def write_eager(path):
    """On a phantom: what each of torch.optim's steps calls, and the step's peak."""
    inputs = sample_inputs("cuda")
    told = {name: (torch_calls(make, Model().cuda(), inputs), steady_peak(make, Model().cuda(), inputs))
            for name, make in OPTIMIZERS.items()}
    path.write_text(json.dumps(told))


def eager_on_phantom(tidemark, path):
    command = [tidemark, "phantom", "--gpu", "h200", "--", sys.executable, __file__, "--tidemark", tidemark,
               "--output", path.parent, "--eager", path]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return json.loads(path.read_text())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eager", type=pathlib.Path, help="of the process on the phantom: its result")
    arguments = parse_arguments(parser)
    if arguments.eager:
        return write_eager(arguments.eager)
    inputs = sample_inputs()
    path = arguments.output / "model.pt2"
    trace = arguments.output / "step.json.gz"
    torch.export.save(torch.export.export(Model().train(), inputs), path)
    phantom = eager_on_phantom(arguments.tidemark, arguments.output / "eager.json")
    passed = failed = 0
    for name, make in OPTIMIZERS.items():
        expected = {"cpu": (torch_calls(make, Model(), inputs), None), "phantom:h200": phantom[name]}
        for device, (theirs, peak) in expected.items():
            ours = recorded_calls(arguments.tidemark, path, name, trace, device)
            agrees = ours == theirs and len(ours) > 0
            error = predicted_peak(arguments.tidemark, trace, arguments.output / "sweep") / peak - 1 if peak else 0
            agrees = agrees and abs(error) <= PEAK_TOLERANCE
            passed, failed = passed + agrees, failed + (not agrees)
            print(f"{name} on {device}: {len(ours)} operators, torch.optim {len(theirs)}, peak"
                  f" {error:+.3%}{'' if agrees else ' FAILED'}")
            if not agrees:
                print("  ours  ", ours[:20])
                print("  theirs", theirs[:20])
    return exit_status(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
