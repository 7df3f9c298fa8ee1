"""The lint rules against the real DeepSpeed: the same configuration is run, and what DeepSpeed
says when it fails is what a finding of severity error (or, for values that only contiguous buffers
choke on, a warning) says too. A configuration on which no error is found runs.

    deepspeed_lint_test.py --tidemark build/release/tidemark --output DIR
"""

import functools
import json
import os
import subprocess
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("MASTER_ADDR", "127.0.0.1")

import torch  # noqa: E402
from torch import nn  # noqa: E402

import deepspeed  # noqa: E402
from deepspeed.utils import logger  # noqa: E402

from judged import exit_status, parse_arguments  # noqa: E402

# Otherwise DeepSpeed compiles kernels for shared memory between the ranks of a CPU, of which there
# is one.
sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None
logger.setLevel("ERROR")

BLOCKS = 4


class Ranks:
    """An mpu of this one process: DeepSpeed asks it for the model-parallel size."""

    def __init__(self, size):
        self.size = size

    def get_model_parallel_world_size(self):
        return self.size

    def get_model_parallel_rank(self):
        return 0

    def get_model_parallel_group(self):
        return None


def block(keys, others='"train_batch_size": 1'):
    return f'{{{others}, "activation_checkpointing": {keys}\n}}'


PARTITION = '"partition_activations": true'
CONTIGUOUS = PARTITION + ', "contiguous_memory_optimization": true'

# Text of the file, and what is known besides it. cpu_checkpointing alone needs another accelerator
# than the CPU: DeepSpeed empties the input, of which its copy on the CPU is the input itself.
CASES = [
    (block("{}"), {}),
    (block('{"number_checkpoints": 100}'), {}),
    (block("{" + PARTITION + "}"), {}),
    (block("{" + PARTITION + ', "cpu_checkpointing": true}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": 4}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": 9}'), {}),
    (block('{"profile": true, "synchronize_checkpoint_boundary": true}'), {}),
    (block('{"partitioned_activations": true}'), {}),
    (block('{"contiguous_memory_optimization": true}'), {}),
    (block('{"contiguous_memory_optimization": "false"}'), {}),
    (block('{"contiguous_memory_optimization": true, "number_checkpoints": 4}'), {}),
    (block("{" + CONTIGUOUS + "}"), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": null}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": 3}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": 1}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": 0}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": -1}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": true}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": 2.5}'), {}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": "4"}'), {}),
    (block('{"number_checkpoints": 2.5}'), {}),
    (block("null"), {}),
    (block("[]"), {}),
    (block('"yes"'), {}),
    (block("{}", '"steps_per_print": 1'), {}),
    (block("{}", '"train_batch_size": null'), {}),
    (block("{}", '"train_batch_size": "auto"'), {}),
    (block("{}", '"train_micro_batch_size_per_gpu": "auto"'), {}),
    (block("{}", '"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto"'), {}),
    (block("{}", '"train_batch_size": 4, "train_micro_batch_size_per_gpu": "auto"'), {}),
    (block("{}", '"train_batch_size": "auto", "gradient_accumulation_steps": 2'), {}),
    (block("{}", '"train_batch_size": 4, "train_micro_batch_size_per_gpu": "auto",'
                 ' "gradient_accumulation_steps": 2'), {}),
    (block('{"profile": true}'), {"nested": True}),
    (block("{" + CONTIGUOUS + ', "number_checkpoints": 4}'), {"forwards": 2}),
    (block("{" + PARTITION + "}"), {"other_argument": True}),
    (block("{" + PARTITION + "}"), {"ranks": 3}),
    (block('{"number_checkpoints": 4}'), {"uses_grad": True}),
]


def train(nested=False, forwards=1, other_argument=False, uses_grad=False):
    checkpoint = deepspeed.checkpointing.checkpoint
    layers = [nn.Linear(8, 8) for _ in range(BLOCKS)]

    def run(layer, x, flag=None, scale=None):
        return layer(x) if scale is None else layer(x) * scale

    x = torch.randn(4, 8, requires_grad=True)
    for _ in range(forwards):
        y = x.clone()
        for layer in layers:
            if nested:
                y = checkpoint(lambda t, layer=layer: checkpoint(layer, t), y)
            elif other_argument:
                y = checkpoint(functools.partial(run, layer), y, None, torch.ones(8))
            else:
                y = checkpoint(layer, y)
    if uses_grad:
        torch.autograd.grad(y.sum(), x)
    else:
        y.sum().backward()


def deepspeed_says(path, options):
    """"AssertionError: ...", or None where it trains."""
    options = dict(options)
    ranks = options.pop("ranks", 0)
    deepspeed.checkpointing.reset()
    try:
        deepspeed.checkpointing.configure(Ranks(ranks) if ranks else None,
                                          deepspeed_config=str(path))
        train(**options)
    except Exception as error:  # noqa: BLE001 - the class and the text are what is compared
        return f"{type(error).__name__}: {error}"
    return None


def lint(tidemark, path, ranks):
    command = [tidemark, "lint", str(path), "--json", "--checkpoints", str(BLOCKS),
               "--deepspeed-version", deepspeed.__version__]
    if ranks:
        command += ["--model-parallel-size", str(ranks)]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout)["findings"]


def agrees(said, findings, options):
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if said is None:
        return not errors
    if options.get("ranks"):  # which tensor it is, only a recorded step can tell
        return "not divisible by mp size" in said and not errors
    sentence = said.split(". Set")[0]
    return any(sentence in finding["message"] for finding in findings)


# What a code-dependent finding must say, where DeepSpeed's own text differs from run to run.
NOTES = {"other_argument": "partition-other-arguments"}


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    store = arguments.output / "store"
    store.unlink(missing_ok=True)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0,
                                         world_size=1)
    deepspeed.init_distributed("gloo")
    path = arguments.output / "ds_config.json"
    passed = failed = 0
    for text, options in CASES:
        path.write_text(text)
        findings = lint(arguments.tidemark, path, options.get("ranks"))
        said = deepspeed_says(path, options)
        note = next((NOTES[o] for o in options if o in NOTES), None)
        if note:
            good = said is not None and any(finding["id"] == note for finding in findings)
        else:
            good = agrees(said, findings, options)
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"FAILED {options}\n{text}\nDeepSpeed: {said}")
            for finding in findings:
                print(f"  {finding['id']} ({finding['severity']}): {finding['message']}")
    return exit_status(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
