"""pip makes a wheel that holds the tool and the package. The tool that the build has made already is
packed, so that nothing is compiled twice."""

import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel(request, tmp_path_factory):
    pytest.importorskip("scikit_build_core")
    folder = tmp_path_factory.mktemp("wheel")
    tool = pathlib.Path(request.config.getoption("--tidemark")).resolve()
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", f"--config-settings=cmake.define.TIDEMARK_PREBUILT={tool}",
         f"--config-settings=build-dir={folder / 'build'}", "-w", str(folder), str(ROOT)],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_tool_and_the_typed_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "tidemark/__init__.py" in names and "tidemark/py.typed" in names
    scripts = [name for name in names if name.endswith(".data/scripts/tidemark")]
    assert len(scripts) == 1
    assert any(name.endswith("/lib/tidemark/libtidemark_torch.so") for name in names)
    phantom = {pathlib.Path(name).name for name in names if "/lib/tidemark/phantom/" in name}
    assert phantom == {"libtidemark_phantom.so", "libtidemark_phantom_observer.so", "libcuda.so.1",
                       "libnccl.so.2", "libnvidia-ml.so.1"}
    metadata = zipfile.ZipFile(wheel).read(
        next(name for name in names if name.endswith("METADATA"))).decode()
    assert "Name: tidemark\n" in metadata and "Version: 0." in metadata


def test_the_installed_tool_and_package_work(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
                    "--prefix", str(tmp_path), str(wheel)], check=True)
    tool = tmp_path / "bin" / "tidemark"
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("tidemark ")
    done = subprocess.run([tool, "phantom", "--gpu", "l4", "--", sys.executable, "-c",
                           "import torch; print(torch.cuda.get_device_name(0))"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and "L4" in done.stdout, done.stdout + done.stderr
    assert next(tmp_path.glob("lib/python*/site-packages/tidemark/_apply.py")).exists()
