"""Tidemark and PyTorch's own estimator against the allocator, on one phantom GPU.

For models of real size, plain and with every block checkpointed, prints the allocated peak of the
eager step, and how far from it the predicted one is and what torch.distributed._tools.MemTracker
says of the same step. The prediction may be off by at most 0.1 %; MemTracker is only shown.

    estimators_test.py --tidemark build/release/tidemark --output DIR [--only NAME]
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

import torch

from estimator_models import MODELS, checkpoint_blocks, make
from judged import exit_status, judge_each, parse_arguments

TOLERANCE = 0.001
# Models whose blocks are no chain, which is what is looked for without a hint.
BLOCKS = {"unet": ["--blocks", "down.*"]}


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def predicted_rows(name, arguments):
    """The plain row, and the one that checkpoints each block."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "profiler" / "python"))
    import tidemark

    model, inputs = make(name, "meta")
    path, folder = arguments.output / f"{name}.pt2", arguments.output / f"{name}.sweep"
    shutil.rmtree(folder, ignore_errors=True)
    tidemark.export(model, inputs, path=path)
    run([arguments.tidemark, "sweep", path, "--device", f"phantom:{arguments.gpu}", "--no-execute",
         "--method", "non_reentrant", "--partition-activations", "off", "--cpu-checkpointing", "off",
         "--contiguous-memory-optimization", "off", *BLOCKS.get(name, []), "-o", folder])
    rows = json.loads((folder / "sweep.json").read_text())["rows"]
    assert rows[0]["setting"]["number_checkpoints"] is None, rows[0]["setting"]
    rows = [row for row in rows if row["status"] == "ok"]
    finest = max(rows[1:], key=lambda row: len(row["setting"]["segments"]))
    assert all(len(segment) == 1 for segment in finest["setting"]["segments"]), finest["setting"]
    return [rows[0], finest]


# ---- Inside a process on the phantom --------------------------------------------------------------


def step(model, inputs):
    loss = model(*inputs)
    loss.backward()


def eager_peak(model, inputs):
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        step(model, inputs)
    model.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step(model, inputs)
    return torch.cuda.max_memory_allocated()


def tracked_peak(model, inputs):
    from torch.distributed._tools import MemTracker

    model.zero_grad(set_to_none=True)
    tracker = MemTracker()
    tracker.track_external(model, *inputs)
    with tracker:
        step(model, inputs)
    return tracker.get_tracker_snapshot("peak")[torch.device("cuda", 0)]["Total"]


def ask_torch(name, settings):
    """The settings come in the order none, each block: checkpoints are put in and stay."""
    model, inputs = make(name, "cuda")
    answers = []
    for segments in settings:
        checkpoint_blocks(model, segments)
        answers.append({"eager": eager_peak(model, inputs), "tracked": tracked_peak(model, inputs)})
    return answers


# ---- The table ------------------------------------------------------------------------------------


def measure(name, settings, arguments):
    answer = arguments.output / f"{name}.json"
    run([arguments.tidemark, "phantom", "--gpu", arguments.gpu, "--", sys.executable, __file__,
         "--inside", name, json.dumps(settings), answer])
    return json.loads(answer.read_text())


def percent(value, exact):
    return 100 * (value - exact) / exact


def judge(name, arguments):
    passed = failed = 0
    rows = predicted_rows(name, arguments)
    settings = [row["setting"]["segments"] for row in rows]
    for row, segments, answer in zip(rows, settings, measure(name, settings, arguments)):
        eager, predicted = answer["eager"], row["predicted"]["allocated_peak_bytes"]
        good = abs(predicted - eager) <= TOLERANCE * eager
        passed, failed = passed + good, failed + (not good)
        print(f"{name:9} {'each block' if segments else 'none':10} {eager:>15,} B  predicted "
              f"{percent(predicted, eager):+8.4f} %  MemTracker {percent(answer['tracked'], eager):+8.4f} %"
              f"{'' if good else '  FAILED'}", flush=True)
    return passed, failed


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1] == "--inside":
        name, settings, path = sys.argv[2:]
        pathlib.Path(path).write_text(json.dumps(ask_torch(name, json.loads(settings))))
        # Autograd's thread may still be letting go of the checkpoints' Python hooks. Where it asks for
        # the interpreter after its end, PyTorch aborts.
        os._exit(0)
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", default="h200")
    parser.add_argument("--only", choices=sorted(MODELS))
    arguments = parse_arguments(parser)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    judged = [name for name in MODELS if arguments.only in (None, name)]
    passed, failed = judge_each(judged, lambda name: judge(name, arguments))
    return exit_status(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
