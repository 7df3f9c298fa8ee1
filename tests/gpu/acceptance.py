"""The acceptance on a machine with a GPU: predicted against measured, the card against its phantom.

Needs a built tidemark with libtidemark_torch.so and the folder phantom beside it, the shipped .pt2 files
(they carry no values), and Python's own library. Where torch lies elsewhere than at build time, its folders are taken from
LD_LIBRARY_PATH, or else from the Python that runs this script. Takes under 8 minutes: every command is cut
off when its share of the time is up. What was found so far is written after each part.

    acceptance.py --tidemark build/release/tidemark --output acceptance.json
                  [--device cuda:0] [--phantom h200] [--models tests/data/gpt2.pt2 ...]
                  [--large-models tests/data/gpt2_small.pt2 ...] [--minutes 7.5]

Models run under every setting, large ones under a few: their kernels are long enough for a card's times to
say something.

--device phantom:h200 runs it where there is no GPU: then only bytes are compared.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

BYTES = ["live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "first_reserved_peak_bytes",
         "host_peak_bytes", "pinned_reserved_bytes"]
PHANTOM_TOLERANCE = 0.005
TIME_TOLERANCE = 0.05
SOME_SETTINGS = ["--number-checkpoints", "none,1,3,12", "--partition-activations", "off",
                 "--contiguous-memory-optimization", "off"]
RESULTS = (0, 3, 4)  # exit codes that come with a result: done, nothing fits the budget, figures differ


class Clock:
    """The time that is left, and the share of it that one command may take."""

    def __init__(self, minutes):
        self.start = time.monotonic()
        self.end = self.start + 60 * minutes

    def passed(self):
        return round(time.monotonic() - self.start, 1)

    def share(self):
        left = self.end - time.monotonic()
        return max(1.0, min(left, max(60.0, left / 2)))


class Tool:
    """The built tidemark, and the library path under which it starts here."""

    def __init__(self, path, clock):
        self.path, self.clock = path, clock
        self.environment = dict(os.environ)
        self.libraries = "as built"

    def find_libraries(self):
        """Why it does not start, or None. Tries this Python's torch where the tool's own is not found."""
        problem = self.open_torch()
        if problem is None:
            return None
        torch = importlib.util.find_spec("torch")
        if torch is None:
            return problem
        packages = pathlib.Path(torch.submodule_search_locations[0]).parent
        folders = [packages / "torch/lib", *sorted(packages.glob("nvidia/*/lib"))]
        present = [self.environment["LD_LIBRARY_PATH"]] if self.environment.get("LD_LIBRARY_PATH") else []
        self.environment["LD_LIBRARY_PATH"] = ":".join([*present, *map(str, folders)])
        self.libraries = str(packages)
        return self.open_torch()

    def open_torch(self):
        """Torch is opened with the first device: with one that does not exist it is told from the driver."""
        problem = self.run("calibrate", "--device", "cuda:63")
        fails = problem is not None and ("loaded" in problem or "loading" in problem or "missing" in problem)
        return problem if fails or problem is not None and "does not run" in problem else None

    def run(self, *arguments):
        """None, or why there is no result."""
        command = [str(self.path), *map(str, arguments)]
        limit = self.clock.share()
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit,
                                  env=self.environment, check=False)
        except subprocess.TimeoutExpired:
            return f"cut off after {limit:.0f} s"
        except OSError as error:
            return f"{self.path} does not run: {error}"
        if done.returncode in RESULTS:
            return None
        return f"exit {done.returncode}: {done.stderr.strip()[-600:]}"

    def output(self, *arguments):
        command = [str(self.path), *map(str, arguments)]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, env=self.environment, check=False).stdout


def sweep(tool, model, device, folder, *options):
    """A sweep's result, and what went wrong: of one that was cut off, the rows that it finished."""
    shutil.rmtree(folder, ignore_errors=True)
    problem = tool.run("sweep", model, "--device", device, "--method", "both", "-o", folder, *options)
    summary = folder / "sweep.json"
    return (json.loads(summary.read_text()) if summary.exists() else None), problem


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


def clock_of(compared):
    """Whose times they are, as the rows' notes say."""
    notes = [note for entry in compared for note in entry["notes"]]
    events = next((note for note in notes if "CUDA events" in note), None)
    return events or ("CUPTI" if any(note.startswith("on the GPU: kernels") for note in notes) else None)


def summary(compared):
    errors = [abs(error) for entry in compared for error in entry.get("byte_errors", {}).values()]
    times = [abs(entry["time_error"]) for entry in compared if "time_error" in entry]
    gradients = [entry["gradients"] for entry in compared]
    return {"settings": len(compared), "ok": sum(entry["status"] == "ok" for entry in compared),
            "settings_with_byte_errors": sum(any(entry.get("byte_errors", {}).values()) for entry in compared),
            "largest_byte_error": max(errors, default=None), "median_time_error": median(times),
            "largest_time_error": max(times, default=None), "times": clock_of(compared),
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


def phantom_of(tool, device_name):
    """The profile of this card; None where there is none."""
    for line in tool.output("list", "gpus").splitlines():
        profile = re.match(r"(\S+)\s+([^,]+),", line)
        if profile and profile.group(2) == device_name:
            return profile.group(1)
    return None


def phantoms_of(arguments, tool, real, machine):
    """The phantoms of this card, by name: of its profile, and of what it and its cuDNN said of it."""
    phantoms = {}
    profile = arguments.phantom or phantom_of(tool, real["device"]["name"])
    if profile is not None:
        phantoms[profile] = f"phantom:{profile}"
    if machine.exists():
        phantoms["the card's own description"] = f"phantom:custom:{machine}"
    return phantoms


def judge_model(arguments, tool, model, folder, *options):
    print(f"{model.name}: sweep on {arguments.device}", flush=True)
    real, problem = sweep(tool, model, arguments.device, folder / model.stem, "--repeat", "5", *options)
    result = {"problem": problem} if problem else {}
    if real is None:
        return result
    compared = compare_rows(real["rows"])
    result.update({"device": real["device"], "fingerprint": real["fingerprint"], "notes": real["notes"],
                   "summary": summary(compared), "rows": compared, "phantoms": {}})
    if arguments.device.startswith("phantom:"):
        return result
    for name, device in phantoms_of(arguments, tool, real, folder / "machine.json").items():
        print(f"{model.name}: sweep on the phantom of {name}", flush=True)
        phantom, problem = sweep(tool, model, device, folder / f"{model.stem}.phantom", *options)
        result["phantoms"][name] = {**({"problem": problem} if problem else {}),
                                    **(against_phantom(real, phantom) if phantom else {})}
    return result


def calibrate(arguments, tool, folder):
    if arguments.device.startswith("phantom:"):
        return {"problem": "a phantom GPU has no rates to measure"}
    print(f"calibration of {arguments.device}", flush=True)
    path = folder / "machine.json"
    start = time.monotonic()
    problem = tool.run("calibrate", "--device", arguments.device, "-o", path)
    if problem:
        return {"problem": problem}
    return {"seconds": round(time.monotonic() - start, 1), **json.loads(path.read_text())}


def verdicts(result):
    """What must hold, by name; None where it could not be looked at."""
    models = [model for model in result["models"].values() if "summary" in model]
    complete = len(models) == len(result["models"]) and not any("problem" in model for model in models)
    byte_errors = [model["summary"]["largest_byte_error"] for model in models
                   if model["summary"]["largest_byte_error"] is not None]
    times = [model["summary"]["median_time_error"] for model in models if model["summary"]["median_time_error"] is not None]
    phantoms = [phantom["largest_relative_error"] for model in models for phantom in model["phantoms"].values()
                if phantom.get("largest_relative_error") is not None]
    return {
        "every model ran": complete and all(model["summary"]["ok"] == model["summary"]["settings"] for model in models),
        "measured bytes equal predicted ones": None if not byte_errors else all(error == 0 for error in byte_errors),
        "no gradient differs": None if not models else not any(model["summary"]["gradients"].get("differ") for model in models),
        "step times within 5 % (median)": None if not times else all(error <= TIME_TOLERANCE for error in times),
        "phantom within 0.5 % of the card": None if not phantoms else all(error <= PHANTOM_TOLERANCE for error in phantoms),
    }


def driver():
    """The card and its driver as nvidia-smi has them, where it is there."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    try:
        return subprocess.run(query, stdout=subprocess.PIPE, text=True, timeout=20, check=False).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def write(path, result):
    """Whole or not at all: the file can be read at any time."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(beside, path)


def report(result):
    for name, model in result["models"].items():
        print(f"{name}: {json.dumps(model.get('summary', {}))}{' ' + model['problem'] if 'problem' in model else ''}")
        for profile, phantom in model.get("phantoms", {}).items():
            shown = {key: value for key, value in phantom.items() if key != "rows"}
            print(f"{name} against the phantom of {profile}: {json.dumps(shown)}")
    calibration = result.get("calibration", {})
    for note in [calibration["problem"]] if "problem" in calibration else calibration.get("notes", []):
        print(f"calibration: {note}")
    for name, verdict in result["verdicts"].items():
        print(f"{'not looked at' if verdict is None else 'yes' if verdict else 'NO':14} {name}")


def main():
    data = pathlib.Path(__file__).resolve().parent.parent / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidemark", required=True, type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--phantom", help="the profile of this machine's card; without it, the one of its name")
    parser.add_argument("--models", nargs="+", type=pathlib.Path, default=[data / "gpt2.pt2", data / "resnet.pt2"])
    parser.add_argument("--large-models", nargs="*", type=pathlib.Path, default=[data / "gpt2_small.pt2"])
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    clock = Clock(arguments.minutes)
    tool = Tool(arguments.tidemark.resolve(), clock)
    problem = tool.find_libraries()
    if problem:
        print(f"tidemark does not start: {problem}", file=sys.stderr)
        return 1
    result = {"format": "tidemark.gpu_acceptance", "schema_version": 1, "device": arguments.device,
              "driver": driver(), "python": platform.python_version(), "libraries": tool.libraries, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def keep():
            result["verdicts"] = verdicts(result)
            result["seconds"] = clock.passed()
            write(arguments.output, result)

        # First: the phantom of what the card says of itself is compared with the card below.
        result["calibration"] = calibrate(arguments, tool, folder)
        keep()
        for model, options in [*((model, []) for model in arguments.models),
                               *((model, SOME_SETTINGS) for model in arguments.large_models)]:
            result["models"][model.name] = judge_model(arguments, tool, model, folder, *options)
            keep()
    report(result)
    return 1 if False in result["verdicts"].values() else 0


if __name__ == "__main__":
    sys.exit(main())
