"""The acceptance on a machine with a GPU: predicted against measured, the card against its phantom.

Needs a built tidemark, with libtidemark_torch.so and the folder phantom beside it, and nothing else: the
models are the shipped .pt2 files, which carry no values. Where torch lies elsewhere than at build time,
LD_LIBRARY_PATH names its folders. Takes under 8 minutes; every command is cut off when the time is up, and
what was found so far is written all the same.

    acceptance.py --tidemark build/release/tidemark --phantom h200 --output acceptance.json
                  [--device cuda:0] [--models tests/data/gpt2.pt2 ...] [--minutes 8]

--device phantom:h200 runs it where there is no GPU: then only bytes are compared.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

BYTES = ["live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "first_reserved_peak_bytes",
         "host_peak_bytes", "pinned_reserved_bytes"]
PHANTOM_TOLERANCE = 0.005
TIME_TOLERANCE = 0.05


class Clock:
    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self):
        return max(1.0, self.end - time.monotonic())


def run(command, clock):
    """A command's result, or why there is none; exit code 4 is a result: figures differ."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                              timeout=clock.left(), check=False)
    except subprocess.TimeoutExpired:
        return "the time was up"
    if done.returncode not in (0, 4):
        return f"exit {done.returncode}: {done.stderr.strip()[-400:]}"
    return None


def sweep(arguments, clock, model, device, folder, *options):
    shutil.rmtree(folder, ignore_errors=True)
    problem = run([arguments.tidemark, "sweep", model, "--device", device, "--method", "both", "-o", folder, *options],
                  clock)
    if problem:
        return None, problem
    return json.loads((folder / "sweep.json").read_text()), None


def key(row):
    setting = row["setting"]
    return json.dumps({name: setting[name] for name in sorted(setting) if name != "segments"})


def compare_rows(rows):
    """Every setting's predicted and measured figures, and how far they lie apart."""
    compared = []
    for row in rows:
        if row["status"] == "invalid":
            continue
        predicted, measured = row["predicted"], row["measured"]
        entry = {"setting": row["setting"], "status": row["status"], "gradients": row["gradients"],
                 "predicted": predicted, "measured": measured, "notes": row["notes"]}
        if predicted and measured and row["status"] == "ok":
            entry["byte_errors"] = {name: measured[name] - predicted[name] for name in BYTES
                                    if measured.get(name) is not None and predicted.get(name) is not None}
            if measured["step_seconds"] and predicted["step_seconds"]:
                entry["time_error"] = measured["step_seconds"] / predicted["step_seconds"] - 1
        compared.append(entry)
    return compared


def median(values):
    values = sorted(values)
    return values[len(values) // 2] if values else None


def summary(compared):
    errors = [abs(error) for entry in compared for error in entry.get("byte_errors", {}).values()]
    times = [abs(entry["time_error"]) for entry in compared if "time_error" in entry]
    gradients = [entry["gradients"] for entry in compared]
    return {"settings": len(compared), "ok": sum(entry["status"] == "ok" for entry in compared),
            "largest_byte_error": max(errors, default=None), "median_time_error": median(times),
            "largest_time_error": max(times, default=None),
            "gradients": {verdict: gradients.count(verdict) for verdict in sorted(set(gradients))}}


def against_phantom(real, phantom):
    """The same settings' measured bytes on the card and on its phantom."""
    there = {key(row): row for row in phantom["rows"]}
    compared = []
    for row in real["rows"]:
        other = there.get(key(row))
        if not other or not row["measured"] or not other["measured"]:
            continue
        errors = {name: other["measured"][name] / row["measured"][name] - 1 for name in BYTES[:3]
                  if row["measured"].get(name) and other["measured"].get(name)}
        compared.append({"setting": row["setting"], "relative_errors": errors})
    return {"settings": len(compared),
            "largest_relative_error": max((abs(error) for entry in compared
                                           for error in entry["relative_errors"].values()), default=None),
            "rows": compared}


def judge_model(arguments, clock, model, folder):
    print(f"{model.name}: sweep on {arguments.device}", flush=True)
    real, problem = sweep(arguments, clock, model, arguments.device, folder / model.stem, "--repeat", "5")
    if problem:
        return {"problem": problem}
    compared = compare_rows(real["rows"])
    result = {"device": real["device"], "fingerprint": real["fingerprint"], "summary": summary(compared), "rows": compared}
    if not arguments.device.startswith("phantom:"):
        print(f"{model.name}: sweep on phantom:{arguments.phantom}", flush=True)
        phantom, problem = sweep(arguments, clock, model, f"phantom:{arguments.phantom}", folder / f"{model.stem}.phantom")
        result["phantom"] = {"problem": problem} if problem else against_phantom(real, phantom)
    return result


def calibrate(arguments, clock, folder):
    if arguments.device.startswith("phantom:"):
        return {"problem": "a phantom GPU has no rates to measure"}
    print(f"calibration of {arguments.device}", flush=True)
    path = folder / "machine.json"
    problem = run([arguments.tidemark, "calibrate", "--device", arguments.device, "-o", path], clock)
    return {"problem": problem} if problem else json.loads(path.read_text())


def verdicts(result):
    """What must hold, by name; None where it could not be looked at."""
    models = [model for model in result["models"].values() if "summary" in model]
    complete = len(models) == len(result["models"])
    byte_errors = [model["summary"]["largest_byte_error"] for model in models]
    times = [model["summary"]["median_time_error"] for model in models if model["summary"]["median_time_error"] is not None]
    phantoms = [model["phantom"]["largest_relative_error"] for model in models
                if model.get("phantom", {}).get("largest_relative_error") is not None]
    return {
        "every model ran": complete and all(model["summary"]["ok"] == model["summary"]["settings"] for model in models),
        "measured bytes equal predicted ones": None if not models else all(error == 0 for error in byte_errors),
        "no gradient differs": None if not models else not any(model["summary"]["gradients"].get("differ") for model in models),
        "step times within 5 % (median)": None if not times else all(error <= TIME_TOLERANCE for error in times),
        "phantom within 0.5 % of the card": None if not phantoms else all(error <= PHANTOM_TOLERANCE for error in phantoms),
    }


def main():
    data = pathlib.Path(__file__).resolve().parent.parent / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidemark", required=True, type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--phantom", default="h200", help="the profile of this machine's card")
    parser.add_argument("--models", nargs="+", type=pathlib.Path, default=[data / "gpt2.pt2", data / "resnet.pt2"])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    clock = Clock(arguments.minutes)
    result = {"format": "tidemark.gpu_acceptance", "schema_version": 1, "device": arguments.device,
              "phantom": arguments.phantom, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for model in arguments.models:
            result["models"][model.name] = judge_model(arguments, clock, model, folder)
        result["calibration"] = calibrate(arguments, clock, folder)
    result["verdicts"] = verdicts(result)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    for name, model in result["models"].items():
        print(f"{name}: {json.dumps(model.get('summary', model))}")
    for name, verdict in result["verdicts"].items():
        print(f"{'not looked at' if verdict is None else 'yes' if verdict else 'NO':14} {name}")
    return 1 if False in result["verdicts"].values() else 0


if __name__ == "__main__":
    sys.exit(main())
