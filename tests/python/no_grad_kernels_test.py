"""The reentrant method first runs a segment with gradients off, where some operators choose other
kernels: they are recorded, predicted and executed in both forms, or named where that cannot be."""
import gzip
import json
import shutil
import subprocess

import torch

from judged import parse_arguments


class Transposed(torch.nn.Module):
    """matmul folds a batch into one product where its matrix wants a gradient, however it lies."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 4))

    def forward(self, x):
        return torch.matmul(x.transpose(1, 2), self.weight.tanh()).square().mean()


class Attention(torch.nn.Module):
    """In float32 efficient attention, which keeps its log-sum-exp for the backward alone."""

    def __init__(self, width):
        super().__init__()
        self.projection = torch.nn.Linear(width, 3 * width)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in self.projection(x).chunk(3, -1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + y.transpose(1, 2).flatten(2)


class Recurrent(torch.nn.Module):
    """oneDNN's LSTM keeps a workspace for its backward alone, and adds up in another order."""

    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.lstm = torch.nn.LSTM(width, width, batch_first=True)

    def forward(self, x):
        return x + self.lstm(self.norm(x))[0]


class Chain(torch.nn.Module):
    def __init__(self, block, width=64, blocks=3):
        super().__init__()
        self.embedding = torch.nn.Linear(width, width)
        self.blocks = torch.nn.ModuleList(block(width) for _ in range(blocks))

    def forward(self, x):
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return x.square().mean()


def run(arguments, *command):
    finished = subprocess.run([arguments.tidemark, *map(str, command)], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stderr


def export(arguments, name, model, x):
    folder = arguments.output / name
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    torch.export.save(torch.export.export(model.train(), (x,)), folder / "model.pt2")
    return folder


def record_notes(arguments, name, model):
    folder = export(arguments, name, model, torch.randn(2, 6, 8))
    return run(arguments, "record", folder / "model.pt2", "-o", folder / "step.json.gz")


def forms(folder):
    step = json.load(gzip.open(folder / "step.json.gz"))
    return {op["name"]: op["no_grad"] for op in step["ops"] if "no_grad" in op}


def without_gradients(folder, number):
    steps = json.load(gzip.open(folder / "rows" / f"{number}.json.gz"))["schedule"]["steps"]
    return sum(step.get("no_grad", False) for step in steps)


def sweep(arguments, name, block, device, gradients, first_runs):
    """Each reentrant row first runs so many operators in their second form, as predicted."""
    folder = export(arguments, name, Chain(block), torch.randn(2, 128, 64))
    run(arguments, "sweep", folder / "model.pt2", "--device", device, "--strict", "-o", folder)
    checked = 0
    for number, row in enumerate(json.load(open(folder / "sweep.json"))["rows"]):
        if row["status"] != "ok":
            continue
        for figure in ("live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes",
                       "host_peak_bytes", "peak_breakdown"):
            predicted, measured = row["predicted"][figure], row["measured"][figure]
            assert predicted == measured, (number, figure, predicted, measured)
        assert row["gradients"] == gradients, (number, row["gradients"], row["notes"])
        setting = row["setting"]
        is_first_run_so = (setting["number_checkpoints"] is not None
                           and setting["method"] == "reentrant")
        expected = first_runs if is_first_run_so else 0
        assert without_gradients(folder, number) == expected, number
        checked += is_first_run_so
    assert checked, "no reentrant row was executed"
    print(f"{name}: {checked} reentrant rows exact")
    return folder


def main():
    arguments = parse_arguments()
    shutil.rmtree(arguments.output, ignore_errors=True)
    arguments.output.mkdir(parents=True)

    notes = record_notes(arguments, "other_operators", Transposed())
    assert "with gradients off" in notes and "in the place of aten::" in notes, notes
    alike = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), Chain(lambda n: torch.nn.Linear(n, n), 8))
    notes = record_notes(arguments, "alike", alike)
    assert "with gradients off" not in notes, notes
    assert not forms(arguments.output / "alike")

    folder = sweep(arguments, "attention", Attention, "phantom:h200", "not_comparable", 3)
    assert forms(folder)["aten::_scaled_dot_product_efficient_attention"]["omits"], forms(folder)
    folder = sweep(arguments, "recurrent", Recurrent, "cpu", "equal", 0)
    notes = json.load(open(folder / "sweep.json"))["notes"]
    assert any("aten::mkldnn_rnn_layer may give other last bits" in note for note in notes), notes
    print("4 passed, 0 failed")


if __name__ == "__main__":
    main()
