"""Runs inside a process on a phantom GPU: what PyTorch eager allocates under each setting.

Reads a list of jobs from a file, {"model", "settings": [{"name", "framework", "segments", "setting"}]},
and writes for each setting the highest allocated level of a steady step.

    phantom_judge.py JOBS.json RESULT.json
"""

import gc
import json
import os
import socket
import sys
import warnings

import torch

import eager_judge_test as judge


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_deepspeed():
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), RANK="0",
                      WORLD_SIZE="1", LOCAL_RANK="0")
    import deepspeed

    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    from deepspeed.runtime.activation_checkpointing import checkpointing

    return checkpointing


class DeepSpeedCheckpointed(judge.Checkpointed):
    checkpointing = None

    def forward(self, x, *args, **kwargs):
        assert not kwargs
        return self.checkpointing.checkpoint(self.run, x, *args)


class Checkpoints:
    """Puts the blocks of a model behind checkpoints of one framework, and takes them out again."""

    def __init__(self):
        self.deepspeed = None

    def wrapper(self, job):
        setting = job["setting"]
        if job["framework"] == "torch":
            return lambda blocks: judge.Checkpointed(blocks, setting["method"] == "reentrant")
        if self.deepspeed is None:
            self.deepspeed = start_deepspeed()
        self.deepspeed.configure(
            None,
            partition_activations=setting["partition_activations"],
            contiguous_checkpointing=setting["contiguous_memory_optimization"],
            num_checkpoints=len(job["segments"]),
            checkpoint_in_cpu=setting["cpu_checkpointing"] != "off",
            synchronize=False,
            profile=False,
        )
        self.deepspeed.reset()
        DeepSpeedCheckpointed.checkpointing = self.deepspeed
        return lambda blocks: DeepSpeedCheckpointed(blocks, True)

    def put(self, runs, job):
        if not job["segments"]:
            return []
        make = self.wrapper(job)
        undo = []
        sizes = judge.group_sizes(runs, job["segments"])
        for (parent, name), groups in zip(runs, sizes):
            original = getattr(parent, name)
            blocks = list(original)
            replaced, begin = [], 0
            for size in groups:
                replaced.append(make(blocks[begin : begin + size]))
                replaced += [judge.Skipped() for _ in range(size - 1)]
                begin += size
            undo.append((parent, name, original))
            sequence = torch.nn.Sequential(*replaced)
            keeps = type(original) is torch.nn.Sequential
            setattr(parent, name, sequence if keeps else torch.nn.ModuleList(replaced))
        return undo


def step(model, inputs):
    loss = model(*inputs)
    loss.backward()


def forget_earlier_settings(checkpoints):
    """What a fresh process would not have: other settings' buffers, other threads' workspaces."""
    if checkpoints.deepspeed is not None:
        checkpoints.deepspeed.reset()
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()


def allocated_peak(model, inputs):
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        step(model, inputs)
    model.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step(model, inputs)
    return torch.cuda.max_memory_allocated()


def main():
    warnings.filterwarnings("ignore")
    jobs = json.load(open(sys.argv[1]))
    checkpoints = Checkpoints()
    results = {}
    for name, settings in jobs.items():
        model, inputs, runs = judge.MODELS[name]()
        model = model.cuda().train()
        inputs = tuple(t.cuda() for t in inputs)
        results[name] = []
        for job in settings:
            forget_earlier_settings(checkpoints)
            undo = checkpoints.put(runs, job)
            try:
                results[name].append(allocated_peak(model, inputs))
            except Exception as error:  # noqa: BLE001 - named in the table
                results[name].append(f"{type(error).__name__}: {error}"[:300])
            for parent, attribute, original in undo:
                setattr(parent, attribute, original)
        del model, inputs, runs, undo
    json.dump(results, open(sys.argv[2], "w"))


if __name__ == "__main__":
    main()
