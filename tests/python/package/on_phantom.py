"""Run by `tidemark phantom`: a plan in force on a GPU that is not there. Prints one line of JSON.

    on_phantom.py check SWEEP ROW    tidemark.check() of a row, and the bytes of its pinned buffers
    on_phantom.py train SWEEP        the Trainer with its callback
"""

import json
import pathlib
import sys
import tempfile

import tidemark
import torch
import transformers.masking_utils

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_loop import batch, tiny_gpt2  # noqa: E402


# Whether sequences are packed it reads from the device, and a phantom has no values.
transformers.masking_utils.find_packed_sequence_indices = lambda *_: None


def check(sweep, row):
    data = {name: value.cuda() for name, value in batch().items()}
    model = tiny_gpt2().train().cuda()
    applied = tidemark.apply(model, sweep, row=int(row))

    def step():
        model(**data).loss.backward()

    step()  # the second step is the steady one: libraries have their workspaces
    model.zero_grad(set_to_none=True)
    result = tidemark.check(model, step)
    pool = applied.segments[0].pool if applied.segments else None
    return {"promised": result.promised_bytes, "measured": result.measured_bytes,
            "differences": result.differences,
            "pinned": pool.bytes if pool is not None else 0}


def train(sweep):
    from transformers import Trainer, TrainingArguments

    from tidemark.trainer import TidemarkCallback

    data = batch()
    rows = [{name: value[i] for name, value in data.items()} for i in range(4)] * 2
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=4, max_steps=2, report_to=[],
        save_strategy="no", disable_tqdm=True, max_grad_norm=0.0)
    callback = TidemarkCallback(sweep)
    Trainer(model=tiny_gpt2(), args=arguments, train_dataset=rows, callbacks=[callback]).train()
    return {"promised": callback.check.promised_bytes, "measured": callback.check.measured_bytes}


if __name__ == "__main__":
    torch.manual_seed(5)
    commands = {"check": check, "train": train}
    print("RESULT " + json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
