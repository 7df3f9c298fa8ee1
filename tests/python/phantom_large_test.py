"""6.7 billion parameters without values: recorded, predicted and executed on a phantom H200.

At least 24 settings agree to the byte within 60 seconds of processor time and 6 GiB of host memory.

    phantom_large_test.py --tidemark build/release/tidemark --output DIR
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "data"))
import export_gpt2 as gpt2  # noqa: E402
from judged import parse_arguments  # noqa: E402

from phantom_device_test import check_exact  # noqa: E402

LEAST_PARAMETERS, LEAST_SETTINGS = 6_700_000_000, 24
MOST_SECONDS, MOST_BYTES = 60, 6 << 30


def export(path):
    gpt2.WIDTH, gpt2.HEADS, gpt2.LAYERS, gpt2.LENGTH = 4096, 32, 32, 2048
    gpt2.VOCABULARY, gpt2.BATCH, gpt2.DROPOUT = 32000, 1, 0.0
    torch.set_default_dtype(torch.bfloat16)
    with FakeTensorMode():
        model = gpt2.Gpt2().train()
        shape = (gpt2.BATCH, gpt2.LENGTH)
        tokens = torch.zeros(shape, dtype=torch.int64), torch.ones(shape, dtype=torch.int64)
        program = torch.export.export(model, tokens)
    torch.export.save(program, path)
    return sum(parameter.numel() for parameter in model.parameters())


def main():
    arguments = parse_arguments()
    path, folder = arguments.output / "gpt_7b.pt2", arguments.output / "sweep"
    parameters = export(path)
    assert parameters >= LEAST_PARAMETERS, parameters
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.monotonic()
    process = subprocess.Popen([arguments.tidemark, "sweep", str(path), "--device", "phantom:h200",
                                "--contiguous-memory-optimization", "off", "-o", str(folder)],
                               stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begin
    assert os.waitstatus_to_exitcode(status) == 0, status
    ran = check_exact(json.loads((folder / "sweep.json").read_text())["rows"])
    seconds, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    print(f"{parameters:,} parameters: {ran} settings agree to the byte; {wall:.1f} s, {seconds:.1f} s of "
          f"processor time, {peak / 2**30:.2f} GiB of host memory")
    assert ran >= LEAST_SETTINGS, ran
    assert seconds < MOST_SECONDS, seconds
    assert peak < MOST_BYTES, peak
    return 0


if __name__ == "__main__":
    sys.exit(main())
