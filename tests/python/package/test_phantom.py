"""A plan in force on a GPU that is not there: PyTorch's own allocator counts."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import tidemark
import torch

from test_loop import batch, tiny_gpt2

SCRIPT = pathlib.Path(__file__).parent / "on_phantom.py"
PROFILE = "h200"


@pytest.fixture(scope="module")
def swept(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    torch.manual_seed(5)
    tidemark.export(tiny_gpt2(), kwargs=batch(), path=folder / "m.pt2", weightless=True)
    tool = request.config.getoption("--tidemark")
    done = subprocess.run(
        [tool, "sweep", str(folder / "m.pt2"), "--device", f"phantom:{PROFILE}", "--method",
         "non_reentrant", "--number-checkpoints", "none,3,6", "--partition-activations", "off",
         "--contiguous-memory-optimization", "off", "--no-execute", "-o", str(folder / "out")],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tool, folder / "out", json.loads((folder / "out" / "sweep.json").read_text())


def on_phantom(tool, *arguments):
    done = subprocess.run(
        [tool, "phantom", "--gpu", PROFILE, "--", sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0 and lines, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(lines[0].removeprefix("RESULT "))


def row_of(document, checkpoints, cpu_checkpointing):
    return next(number for number, row in enumerate(document["rows"])
                if row["setting"]["number_checkpoints"] == checkpoints
                and row["setting"]["cpu_checkpointing"] == cpu_checkpointing)


@pytest.mark.parametrize("checkpoints, form", [(3, "off"), (6, "blocking"), (6, "async")])
def test_the_peak_is_as_promised(swept, checkpoints, form):
    tool, folder, document = swept
    result = on_phantom(tool, "check", folder, row_of(document, checkpoints, form))
    assert not result["differences"]
    assert result["measured"] == result["promised"], result
    hidden_state = 4 * 64 * 64 * 4
    assert result["pinned"] == (0 if form == "off" else checkpoints * hidden_state)


def test_the_trainers_callback(swept):
    pytest.importorskip("accelerate")
    tool, folder, _ = swept
    result = on_phantom(tool, "train", folder)
    # Beside the model: the few bytes of the Trainer's own loss.
    assert 0 <= result["measured"] - result["promised"] <= 16, result
