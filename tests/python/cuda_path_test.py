"""What --device cuda runs on a card, on a phantom that this program takes for one: all of it but the values
and the times. Bytes are as predicted, times are taken by CUDA events, everything is compared and calibrated.

    cuda_path_test.py --tidemark build/release/tidemark --output DIR
"""

import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys

from judged import exit_status, parse_arguments, run_checks

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
BYTES = ["live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "first_reserved_peak_bytes",
         "host_peak_bytes", "pinned_reserved_bytes"]


class Card:
    def __init__(self, tidemark, folder, gpu="h200"):
        self.tidemark, self.folder, self.gpu = tidemark, folder, gpu

    def run(self, *arguments, lost_after=0):
        """The tool's exit code and messages, those of the phantom around it left out. The card may fail for good
        after so many kernels."""
        command = [self.tidemark, "phantom", "--gpu", self.gpu, "--", self.tidemark, *arguments]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "TIDEMARK_PHANTOM_LOST_AFTER": str(lost_after)})
        return done.returncode, "\n".join(line for line in done.stderr.splitlines()
                                          if line.startswith("tidemark: "))

    def sweep(self, model, *options):
        folder = self.folder / "sweep"
        shutil.rmtree(folder, ignore_errors=True)
        code, told = self.run("sweep", DATA / model, "--device", "cuda", "-o", folder, *options)
        assert code == 0, told
        return json.loads((folder / "sweep.json").read_text())


def check_sweep(card, model, *options):
    sweep = card.sweep(model, "--repeat", "2", *options)
    assert sweep["device"]["kind"] == "cuda" and 0 < sweep["device"]["context_bytes"] < 2 << 30, sweep["device"]
    rows = [row for row in sweep["rows"] if row["status"] != "invalid"]
    assert len(rows) >= 6, len(rows)
    for row in rows:
        assert row["status"] == "ok" and row["gradients"] == "equal", row
        assert [row["measured"][name] for name in BYTES] == [row["predicted"][name] for name in BYTES], row
        assert row["measured"]["step_seconds"] > 0 and row["measured"]["step_seconds_noise"] is not None, row
        assert any("CUDA events" in note and "since CUPTI" in note for note in row["notes"]), row["notes"]
    recomputed = [row for row in rows if row["setting"]["number_checkpoints"]]
    assert all(row["measured"]["recompute_seconds"] > 0 for row in recomputed)
    moved = [row for row in rows if row["measured"]["transfer_bytes"] > 0]
    assert moved and all(row["measured"]["transfer_seconds"] > 0 for row in moved)
    return f"{len(rows)} settings as predicted"


def profile_of(tidemark, gpu):
    listed = subprocess.run([tidemark, "list", "gpus", "--json"], capture_output=True, text=True, check=True)
    return next(profile for profile in json.loads(listed.stdout) if profile["name"] == gpu)


def custom(path, profile):
    path.write_text(json.dumps(profile))
    return f"custom:{path}"


def small_card(card):
    """A card with 8 GiB, where a step of GPT-2 small has no room, and what its cuDNN says of it."""
    profile = {**profile_of(card.tidemark, "l4"), "name": "small", "total_memory_bytes": 8 << 30}
    profile["cudnn_description"] = {
        "deviceName": "NVIDIA L4", "deviceVer": 890, "driverVer": 13010, "totalGlobalMem": 8 << 30, "cudaDeviceId": 0,
        "pciDeviceId": 7, "multiProcessorCount": 58, "maxCtasPerSM": 24, "maxThreadsPerSM": 1536, "warpSize": 32,
        "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "maxThreadsPerBlock": 1024,
        "regsPerBlock": 65536, "maxRegistersPerSM": 65536, "maxSharedMemoryPerBlock": 49152,
        "maxSharedMemoryPerBlockOptin": 101376, "reservedSharedMemoryPerBlock": 1024, "l2CacheSize": 50331648,
        "smClockRateKHz": 2039000, "memClockRateKHz": 6250000, "isTccDriver": 0, "supportCoopLaunch": 1}
    return Card(card.tidemark, card.folder, custom(card.folder / "small.json", profile))


def check_calibration(card, path):
    """Of a card with 8 GiB: every kind of work in every type, and nothing left out for want of memory."""
    code, told = small_card(card).run("calibrate", "--device", "cuda", "-o", path)
    assert code == 0, told
    machine = json.loads(path.read_text())
    notes = [note for note in machine.get("notes", []) if "clocks changed" not in note]
    assert not notes, notes
    curves = machine["rates"]
    products = {"matmul", "convolution", "convolution_backward", "pointwise", "pointwise_backward", "attention",
                "attention_backward"}
    others = {"memory", "random", "exponential", "tanh", "indexed", "batch_norm", "layer_norm", "pooling"}
    measured = {"float32": products | others, "bfloat16": products | others, "float64": {"matmul"},
                "float16": products - {"attention", "attention_backward"} | others}
    for dtype, works in measured.items():
        assert {curve["work"] for curve in curves if curve["dtype"] == dtype} == works, dtype
    for curve in curves:
        assert curve["points"] and all(0 < point["per_second"] < 1e18 for point in curve["points"]), curve
    assert 0 < machine["launch_seconds"] < 1 and machine["copy_bytes_per_second"] > 0
    for rates in ("transfer_rates", "transfer_rates_together"):
        assert len(machine[rates]) == 4 and all(rate > 0 for rate in machine[rates].values()), machine[rates]
    return f"{sum(len(curve['points']) for curve in curves)} points"


def bytes_of(card, device):
    """Of a small convolution network: every setting's predicted and measured bytes, every operator's scratch."""
    folder = card.folder / "own"
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run([str(card.tidemark), "sweep", str(DATA / "resnet.pt2"), "--device", device,
                           "--number-checkpoints", "none,2", "-o", str(folder)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads((folder / "sweep.json").read_text())["rows"] if row["status"] == "ok"]
    with gzip.open(folder / "step.json.gz") as file:
        scratch = [(op["name"], op["workspace_bytes"]) for op in json.load(file)["ops"]]
    assert rows and any(of for name, of in scratch if name == "aten::convolution_backward")
    return [[row[kind][name] for name in [*BYTES, "peak_breakdown"]] for row in rows
            for kind in ("predicted", "measured")], scratch


def check_own_card(card, path):
    """What a card and its cuDNN say of it makes the phantom that it is."""
    saved = json.loads(path.read_text())["card"]
    given = json.loads((card.folder / "small.json").read_text())
    rates = {name for name in given if name.endswith("_per_second")}
    assert all(saved[name] == given[name] for name in given if name not in rates | {"name"}), (saved, given)
    assert saved["name"] == "nvidia-l4" and all(saved[name] >= 0 for name in rates), saved
    own = bytes_of(card, f"phantom:custom:{path}")
    assert own == bytes_of(card, f"phantom:custom:{card.folder / 'small.json'}")
    assert own[1] != bytes_of(card, "phantom:h200")[1], "cuDNN plans alike for any card"
    return "byte for byte"


def check_wrong_descriptions(card):
    profile = json.loads((card.folder / "small.json").read_text())
    path = card.folder / "wrong.json"

    def refusal(wrong):
        done = subprocess.run([str(card.tidemark), "record", str(DATA / "resnet.pt2"), "--device",
                               f"phantom:{custom(path, wrong)}", "-o", str(card.folder / "step.json.gz")],
                              capture_output=True, text=True, timeout=300)
        return done.returncode, done.stderr.strip().splitlines()[-1]

    remedy = "leave cudnn_description out, or let tidemark calibrate write the file again on that card"
    description = {**profile["cudnn_description"], "warpSize": "32"}
    assert refusal({**profile, "cudnn_description": description}) == (
        1, f"tidemark: {path}: cudnn_description.warpSize: is not a whole number from 0; {remedy}")
    # A whole number, but larger than cuDNN reads: only cuDNN knows.
    description = {**profile["cudnn_description"], "warpSize": 1 << 40}
    code, told = refusal({**profile, "cudnn_description": description})
    assert code == 1 and told.startswith("tidemark: the phantom GPU cannot go on: cuDNN refuses the description"), told
    assert told.endswith("correct compute_capability or cudnn_description in the profile small"), told
    return "each in a sentence"


def check_refusals(card):
    code, told = card.run("sweep", DATA / "gpt2.pt2", "--device", "cuda:3")
    assert code == 2 and told == "tidemark: there is no cuda:3; this machine has 1 GPU, cuda:0", told
    code, told = small_card(card).run("record", DATA / "gpt2_small.pt2", "--device", "cuda", "-o",
                                      card.folder / "step.json.gz")
    assert code == 1 and "does not fit: this GPU has no memory left" in told and "\n" not in told, told
    return "each in a sentence"


def check_lost_card(card):
    """A card that fails for good: a sentence, and the rows so far."""
    folder = card.folder / "lost"
    shutil.rmtree(folder, ignore_errors=True)
    sweep = ["sweep", DATA / "gpt2.pt2", "--device", "cuda", "-o", folder, "--number-checkpoints", "none,2,12",
             "--partition-activations", "off", "--contiguous-memory-optimization", "off"]
    error = "CUDA error: uncorrectable ECC error encountered"
    code, told = card.run(*sweep, lost_after=4000)
    assert code == 1 and told.endswith(error) and told.count("\n") == 0, told
    code, told = card.run(*sweep, lost_after=8000)
    rows = json.loads((folder / "sweep.json").read_text())["rows"]
    assert code == 1 and [row["status"] for row in rows] == ["ok"] * (len(rows) - 1) + ["failed"], (told, rows)
    assert len(rows) > 1 and rows[-1]["notes"][0].endswith(error), rows[-1]
    code, told = card.run("calibrate", "--device", "cuda", "-o", card.folder / "lost.json", lost_after=4000)
    assert code == 1 and told == f"tidemark: the calibration fails: {error}", told
    return f"{len(rows)} rows"


def main():
    arguments = parse_arguments()
    card = Card(arguments.tidemark, arguments.output)
    checks = {
        "GPT-2": lambda: check_sweep(card, "gpt2.pt2", "--number-checkpoints", "none,4", "--method", "both"),
        "ResNet with its optimizer": lambda: check_sweep(
            card, "resnet.pt2", "--number-checkpoints", "none,2", "--optimizer", "adamw:fused"),
        "calibration": lambda: check_calibration(card, arguments.output / "machine.json"),
        "the card's own description": lambda: check_own_card(card, arguments.output / "machine.json"),
        "wrong descriptions": lambda: check_wrong_descriptions(card),
        "a lost card": lambda: check_lost_card(card),
        "refusals": lambda: check_refusals(card),
    }
    return exit_status(*run_checks(checks))


if __name__ == "__main__":
    sys.exit(main())
