"""The tool opens its library with LibTorch only where a device is needed."""

import pathlib
import shutil
import subprocess

import pytest


@pytest.fixture
def lonely(request, tmp_path):
    tool = pathlib.Path(request.config.getoption("--tidemark")).resolve()
    return pathlib.Path(shutil.copy(tool, tmp_path))


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_without_the_library_only_devices_are_missing(lonely):
    assert run(lonely, "list", "gpus").returncode == 0
    done = run(lonely, "calibrate", "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr == (
        f"tidemark: the library {lonely.parent}/libtidemark_torch.so is missing; keep it beside the "
        "program, as the build made it\n")


def test_a_library_that_cannot_be_loaded_is_one_sentence(lonely):
    (lonely.parent / "libtidemark_torch.so").write_text("no library")
    done = run(lonely, "calibrate", "--device", "cpu")
    assert done.returncode == 1
    assert done.stderr.startswith("tidemark: LibTorch cannot be loaded: ") and done.stderr.count("\n") == 1
    assert "LD_LIBRARY_PATH" in done.stderr
