"""Real architectures: loss and gradients bit-equal to Python's run of the same program, and every
setting of a whole sweep predicted to the byte with gradients bit-equal to the unscheduled step's.

    architectures_test.py --tidemark build/release/tidemark --output DIR [--only NAME]
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
import warnings

import numpy
import torch

from architectures import ARCHITECTURES, export
from judged import exit_status, parse_arguments

# Mixtral's kernels add in the order in which threads arrive, so PyTorch's own gradients differ from
# step to step; with one thread they are comparable.
ONE_THREAD = {"mixtral"}

# The only reasons for which a setting may be refused, with a word each that names it.
REASONS = [
    "only available with partitioned activations",
    "crashes",  # an input that several checkpoints or later operators read
    "not divisible by mp size",
    "contiguous buffers hold equal sizes only",
    "list index out of range",
    "requires_grad",
    "inplace operation",
]


def checksum(tensor):
    data = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().astype(numpy.uint64)
    with numpy.errstate(over="ignore"):
        return int((data * numpy.arange(1, len(data) + 1, dtype=numpy.uint64)).sum(dtype=numpy.uint64))


def python_step(program, inputs):
    module = program.module()
    torch.manual_seed(0)
    loss = module(*inputs)
    loss.backward()
    gradients = {}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            gradients[name] = checksum(parameter.grad)
    return loss.item(), gradients


def run(command, expected=0):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != expected:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def check_recording(tidemark, path, program, inputs):
    loss, gradients = python_step(program, inputs)
    printed = json.loads(run([tidemark, "record", path, "--values", "--json",
                              "--threads", torch.get_num_threads()]))
    assert printed["loss"] == loss, f"loss {printed['loss']!r}, Python's {loss!r}"
    ours = printed["gradient_checksums"]
    # A tied parameter has one gradient under one of its names.
    assert sorted(ours.values()) == sorted(gradients.values()), "gradients differ from Python's: " + ", ".join(
        name for name in ours if ours[name] != gradients.get(name))


def check_sweep(tidemark, path, folder, ranks):
    shutil.rmtree(folder, ignore_errors=True)
    run([tidemark, "sweep", path, "--method", "both", "--model-parallel-size", ranks, "-o", folder,
         "--threads", torch.get_num_threads()])
    rows = json.loads((folder / "sweep.json").read_text())["rows"]
    counts = {"ok": 0, "invalid": 0}
    for row in rows:
        setting = row["setting"]
        counts[row["status"]] = counts.get(row["status"], 0) + 1
        if row["status"] == "invalid":
            assert any(reason in row["notes"][0] for reason in REASONS), row["notes"]
            continue
        assert row["status"] == "ok", (setting, row["status"], row["notes"])
        for figure in ("live_peak_bytes", "host_peak_bytes", "static_bytes", "transfer_bytes", "peak_breakdown"):
            assert row["measured"][figure] == row["predicted"][figure], (setting, figure, row["predicted"][figure], row["measured"][figure])
        assert row["gradients"] == "equal", (setting, row["gradients"])
    checkpointed = [row for row in rows if row["setting"]["number_checkpoints"] is not None and row["status"] == "ok"]
    assert checkpointed, "no checkpointed setting ran"
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=ARCHITECTURES)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parse_arguments(parser)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    passed = failed = 0
    for name in [arguments.only] if arguments.only else ARCHITECTURES:
        begin = time.time()
        torch.set_num_threads(1 if name in ONE_THREAD else arguments.threads)
        try:
            program, inputs = export(name)
            path = arguments.output / f"{name}.pt2"
            torch.export.save(program, path)
            check_recording(arguments.tidemark, path, program, inputs)
            counts = [check_sweep(arguments.tidemark, path, arguments.output / f"{name}.{ranks}", ranks) for ranks in (1, 2)]
            passed += 1
            rows = " and ".join(f"{c['ok']} ok, {c['invalid']} refused" for c in counts)
            print(f"{name:18} bit-equal to Python; M=1 and M=2: {rows} ({time.time() - begin:.1f} s)", flush=True)
        except Exception as error:  # noqa: BLE001 - every architecture is judged
            failed += 1
            print(f"{name:18} FAILED: {type(error).__name__}: {str(error)[:1500]}", flush=True)
    return exit_status(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
