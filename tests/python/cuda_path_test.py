"""What --device cuda runs on a card, on a phantom that this program takes for one: all of it but the values
and the times. Bytes are as predicted, times are taken by CUDA events, everything is compared and calibrated.

    cuda_path_test.py --tidemark build/release/tidemark --output DIR
"""

import json
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

    def run(self, *arguments):
        """The tool's exit code and messages, those of the phantom around it left out."""
        command = [self.tidemark, "phantom", "--gpu", self.gpu, "--", self.tidemark, *arguments]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
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


def check_calibration(card):
    path = card.folder / "machine.json"
    code, told = card.run("calibrate", "--device", "cuda", "-o", path)
    assert code == 0, told
    machine = json.loads(path.read_text())
    curves = machine["rates"]
    assert {"matmul", "convolution", "attention", "memory"} <= {curve["work"] for curve in curves}, curves
    assert all(curve["points"] for curve in curves), curves
    for rates in ("transfer_rates", "transfer_rates_together"):
        assert len(machine[rates]) == 4 and all(rate > 0 for rate in machine[rates].values()), machine[rates]
    return f"{len(curves)} curves"


def small_card(card):
    """A card with 8 GiB, where a step of GPT-2 small has no room."""
    listed = subprocess.run([card.tidemark, "list", "gpus", "--json"], capture_output=True, text=True, check=True)
    profile = next(profile for profile in json.loads(listed.stdout) if profile["name"] == "l4")
    profile.update(name="small", total_memory_bytes=8 << 30)
    path = card.folder / "small.json"
    path.write_text(json.dumps(profile))
    return Card(card.tidemark, card.folder, f"custom:{path}")


def check_refusals(card):
    code, told = card.run("sweep", DATA / "gpt2.pt2", "--device", "cuda:3")
    assert code == 2 and told == "tidemark: there is no cuda:3; this machine has 1 GPU, cuda:0", told
    code, told = small_card(card).run("record", DATA / "gpt2_small.pt2", "--device", "cuda", "-o",
                                      card.folder / "step.json.gz")
    assert code == 1 and "does not fit: this GPU has no memory left" in told and "\n" not in told, told
    return "each in a sentence"


def main():
    arguments = parse_arguments()
    card = Card(arguments.tidemark, arguments.output)
    checks = {
        "GPT-2": lambda: check_sweep(card, "gpt2.pt2", "--number-checkpoints", "none,4", "--method", "both"),
        "ResNet with its optimizer": lambda: check_sweep(
            card, "resnet.pt2", "--number-checkpoints", "none,2", "--optimizer", "adamw:fused"),
        "calibration": lambda: check_calibration(card),
        "refusals": lambda: check_refusals(card),
    }
    return exit_status(*run_checks(checks))


if __name__ == "__main__":
    sys.exit(main())
