"""What the tests of executed plans have in common: the shipped models' recorded steps."""

import json
import pathlib
import subprocess

MODELS = ("gpt2", "resnet")
FOLDER = pathlib.Path(__file__).parents[1] / "data"


def run(command):
    """The exit status, and what was printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def run_to_json(command):
    code, text, error = run([*command, "--json"])
    assert code == 0, (command, code, error)
    return json.loads(text)


def record(tool, model, device, folder):
    step = folder / f"{model}.json.gz"
    code, _, error = run([tool, "record", FOLDER / f"{model}.pt2", "--device", device, "-o", step])
    assert code == 0, error
    return step


def plain_figures(tool, step):
    """Of the schedule that keeps everything; a budget that everything fits."""
    return run_to_json([tool, "plan", step, "--budget", "1TiB"])["predicted"]
