"""Puts unchanged PyTorch programs on the phantom GPU and checks what `tidemark phantom` tells of them.

    phantom_test.py --tidemark build/release/tidemark --output FOLDER
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

HEADER = """
import os, sys, torch
import torch.nn.functional as F
def tell():
    torch.cuda.synchronize()
    print("peaks", torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), flush=True)
"""

PROGRAMS = {
    "resnet50": """
import torchvision
model = torchvision.models.resnet50().cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(2):
    loss = F.cross_entropy(model(torch.randn(4, 3, 224, 224).cuda()), torch.zeros(4).long().cuda())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
tell()
""",
    "transformer": """
layer = torch.nn.TransformerEncoderLayer(64, 4, dropout=0.1).cuda()
optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
with torch.autocast("cuda", torch.bfloat16):
    loss = layer(torch.randn(10, 2, 64, device="cuda")).float().sum()
loss.backward()
optimizer.step()
tell()
""",
    "gpt2_trainer": """
import tempfile
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return {"input_ids": torch.full((32,), i), "labels": torch.full((32,), i)}
model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=256, n_positions=64))
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(output_dir=folder, per_device_train_batch_size=2, max_steps=2,
                                  bf16=True, report_to=[], gradient_checkpointing=True)
    Trainer(model=model, args=arguments, train_dataset=Data()).train()
tell()
""",
    "deepspeed": """
import deepspeed
deepspeed.init_distributed()
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
stage = int(sys.argv[1])
model = torch.nn.Sequential(*[torch.nn.Linear(128, 128) for _ in range(4)])
engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config={
    "train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": True},
    "zero_optimization": {"stage": stage},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}})
for _ in range(2):
    loss = engine(torch.randn(2, 128, device=engine.device, dtype=torch.bfloat16)).float().sum()
    engine.backward(loss)
    engine.step()
tell()
""",
    "out_of_memory": """
blocks = []
try:
    while True:
        blocks.append(torch.empty(1 << 34, dtype=torch.uint8, device="cuda"))
except torch.OutOfMemoryError as error:
    del error
tell()
""",
    "values": """
x = torch.tensor(list(range(100))).cuda()
assert x.sum().item() == 0 and x.tolist() == list(range(100))
address = x.data_ptr()
del x
y = torch.empty(100, dtype=torch.long, device="cuda")
assert y.data_ptr() == address and y.tolist() == [0] * 100
pinned = torch.ones(1 << 20).pin_memory()
assert pinned.is_pinned()
pinned.copy_(pinned.cuda(), non_blocking=True)
assert pinned.sum().item() == 0
tell()
""",
    "lstm": """
torch.nn.LSTM(16, 32).cuda()(torch.randn(5, 3, 16, device="cuda"))
""",
    "sudden_end": """
x = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
y = torch.empty(1 << 20, dtype=torch.uint8, device="cuda")
os._exit(7)
""",
}

RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}


class Phantom:
    def __init__(self, tidemark, folder):
        self.tidemark, self.folder = tidemark, folder

    def run(self, name, *options, arguments=(), launcher=(), environment=None):
        script = self.folder / f"program_{name}.py"  # shadows no package
        script.write_text(HEADER + PROGRAMS[name])
        report = self.folder / f"{name}.json"
        command = [self.tidemark, "phantom", "--report", report, *options, "--", sys.executable]
        done = subprocess.run(
            [str(part) for part in (*command, *launcher, script, *arguments)],
            capture_output=True, text=True, timeout=300, env={**os.environ, **(environment or {})},
        )
        return done, json.loads(report.read_text()) if report.exists() else None


def told_peaks(done):
    return [tuple(map(int, line.split()[-2:])) for line in done.stdout.splitlines() if "peaks" in line]


def reported_peaks(report):
    return [
        (device["allocated_peak_bytes"], device["reserved_peak_bytes"])
        for process in report["processes"] for device in process["devices"]
    ]


def expect(condition, done, what):
    if not condition:
        raise AssertionError(f"{what}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def check_peaks(phantom, name, **how):
    done, report = phantom.run(name, **how)
    expect(done.returncode == 0 and report["exit_status"] == 0, done, f"exit {done.returncode}")
    told = told_peaks(done)
    expect(told and sorted(told) == sorted(reported_peaks(report)), done, f"{told} {report}")
    return done, report


def check_out_of_memory(phantom):
    done, report = check_peaks(phantom, "out_of_memory")
    refused = report["processes"][0]["devices"][0]["out_of_memory"]
    expect(refused and refused["requested_bytes"] == 1 << 34, done, str(report))
    # 8 blocks of 16 GiB fit on a card of 139.8 GiB.
    expect(refused["allocated_bytes"] == 8 << 34, done, str(refused))


def check_refusal(phantom):
    done, report = phantom.run("lstm")
    refused = [c["name"] for c in report["processes"][0]["calls_without_answer"]
               if c["answer"] == "refused"]
    expect(done.returncode == 1 and any("RNN" in name or "Dropout" in name for name in refused),
           done, str(report))


def check_sudden_end(phantom):
    done, report = phantom.run("sudden_end")
    expect(done.returncode == 7, done, f"exit {done.returncode}")
    expect(reported_peaks(report)[0][0] >= 1 << 30, done, str(report))


def check_strict(phantom):
    done, _ = phantom.run("values", "--strict")
    expect(done.returncode == 0, done, f"exit {done.returncode}")
    done, _ = phantom.run("resnet50", "--strict")
    expect(done.returncode == 1 and "batch norm" in done.stderr, done, f"exit {done.returncode}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tidemark", required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    phantom = Phantom(arguments.tidemark, arguments.output)
    one_rank = {**RANK, "MASTER_PORT": "29671"}
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29672"]
    checks = {
        "values": lambda: check_peaks(phantom, "values"),
        "transformer": lambda: check_peaks(phantom, "transformer"),
        "gpt2_trainer": lambda: check_peaks(phantom, "gpt2_trainer"),
        "out of memory": lambda: check_out_of_memory(phantom),
        "refusal": lambda: check_refusal(phantom),
        "sudden end": lambda: check_sudden_end(phantom),
        "strict": lambda: check_strict(phantom),
        "deepspeed on two ranks": lambda: check_peaks(
            phantom, "deepspeed", arguments=["2"], launcher=torchrun),
        "deepspeed stage 3": lambda: check_peaks(
            phantom, "deepspeed", arguments=["3"], environment=one_rank),
    }
    failed = 0
    for name, check in checks.items():
        try:
            check()
            print(f"{name}: passed", flush=True)
        except Exception as error:  # noqa: BLE001 - a failed check must not hide the others
            failed += 1
            print(f"{name}: FAILED {error}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
