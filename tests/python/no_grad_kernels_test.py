"""Operators that choose other kernels with gradients off are named when a step is recorded."""
import argparse
import pathlib
import subprocess

import torch


class Transposed(torch.nn.Module):
    """matmul folds a batch into one product where its matrix wants a gradient, however it lies."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 4))

    def forward(self, x):
        return torch.matmul(x.transpose(1, 2), self.weight.tanh()).square().mean()


class Mean(torch.nn.Module):
    def forward(self, x):
        return x.mean()


def record(tidemark, model, folder):
    program = torch.export.export(model.train(), (torch.randn(2, 6, 8),))
    torch.export.save(program, folder / "model.pt2")
    command = [tidemark, "record", folder / "model.pt2", "-o", folder / "step.json.gz"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tidemark", required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    notes = record(arguments.tidemark, Transposed(), arguments.output)
    assert "with gradients off" in notes and "in the place of aten::" in notes, notes
    alike = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))
    notes = record(arguments.tidemark, torch.nn.Sequential(alike, Mean()), arguments.output)
    assert "with gradients off" not in notes, notes
    print("2 passed, 0 failed")


if __name__ == "__main__":
    main()
