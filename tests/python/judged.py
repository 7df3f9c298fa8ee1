"""What the tests have in common that ask the tool: their arguments, and going on after a failure."""

import argparse
import pathlib
import time


def parse_arguments(parser=None):
    """--tidemark, --output with its folder made, and whatever else `parser` takes."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--tidemark", required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    return arguments


def judge_each(names, judge):
    """Sums what judge(name) gives, passed and failed; a model that cannot be judged fails once."""
    passed = failed = 0
    for name in names:
        try:
            good, bad = judge(name)
        except Exception as error:  # noqa: BLE001 - every model is judged
            good, bad = 0, 1
            print(f"{name:11} FAILED: {type(error).__name__}: {str(error)[:1500]}", flush=True)
        passed, failed = passed + good, failed + bad
    return passed, failed


def run_checks(checks):
    """The same of {name: check}, where a check raises or gives a sentence, if there is one to say."""
    def judge(name):
        begin = time.monotonic()
        result = checks[name]()
        said = result if isinstance(result, str) else "passed"
        print(f"{name:11} {said} ({time.monotonic() - begin:.1f} s)", flush=True)
        return 1, 0

    return judge_each(checks, judge)


def exit_status(passed, failed):
    """Of the process; a test that judged nothing has failed."""
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0
