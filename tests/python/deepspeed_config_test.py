"""The configuration reader against DeepSpeed's own: hjson with duplicate keys refused, and the
activation_checkpointing block as DeepSpeedActivationCheckpointingConfig reads it.

    deepspeed_config_test.py --tidemark build/release/tidemark --output DIR
"""

import itertools
import json
import os
import random
import subprocess
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import hjson  # noqa: E402
from deepspeed.runtime.activation_checkpointing.config import (  # noqa: E402
    DeepSpeedActivationCheckpointingConfig,
)
from deepspeed.runtime.config_utils import dict_raise_error_on_duplicate_keys  # noqa: E402

from judged import exit_status, parse_arguments  # noqa: E402

FLAGS = ["partition_activations", "contiguous_memory_optimization", "cpu_checkpointing",
         "synchronize_checkpoint_boundary", "profile"]
VALUES = ["true", "false", "null", "0", "1", '"false"', '""', "2.5", "[]", "[1]", "{}", "yes", "3.0",
          "1e2", "-1", "'single'", "nulls", "truely", "0x10", "- 1", "01"]
NUMBERS = ["null", "4", "0", "-1", "2.5", '"4"', "true", "12", "4.0", "1e1", "four"]


def block_texts():
    for flag, value in itertools.product(FLAGS, VALUES):
        yield f'{{"train_batch_size": 1, "activation_checkpointing": {{"{flag}": {value}\n}}}}'
    for value in NUMBERS:
        yield f'{{"train_batch_size": 1, "activation_checkpointing": {{"number_checkpoints": {value}\n}}}}'
    for value in ["null", "[]", '"text"', "3", "{}"]:
        yield f'{{"train_batch_size": 1, "activation_checkpointing": {value}\n}}'


def style_texts():
    yield "train_batch_size: 1\nactivation_checkpointing: {\n  profile: true\n  number_checkpoints: 3\n}\n"
    yield "{\n# comment\n a: b # text with comment\n activation_checkpointing: { profile: true, } // end\n}"
    yield "{/* c */ 'activation_checkpointing' : {'profile' : true /* x */, \"cpu_checkpointing\":false}}"
    yield "{a: '''\n  many\n  lines\n  ''', activation_checkpointing: {partition_activations: true}}"
    yield '{"a": "\\u00e9\\n", "activation_checkpointing": {"number_checkpoints": 7,}}'
    yield "{a: 1 b: 2}"
    yield "{a: 1\r\n b: 2\r\n activation_checkpointing: {profile: true}\r\n}"
    yield "{\"a\": 1, \"a\": 2}"
    yield '{"activation_checkpointing": {"profile": true, "profile": false}}'
    yield '{"activation_checkpointing": {"partitioned_activations": true}}'
    yield '{"Activation_Checkpointing": {"profile": true}}'
    yield "{"
    yield '{"a": [1, 2'
    yield '{"a" 1}'
    yield "[1, 2]"
    yield ""
    yield "{,}"
    yield "{a: }"
    yield "{a b: 1}"


def random_texts(count):
    generator = random.Random(0)
    for _ in range(count):
        keys = generator.sample(FLAGS + ["number_checkpoints", "unknown"], generator.randint(0, 5))
        quote = generator.choice(['"', "'", ""])
        comma = generator.choice([",", "", ", // why", " # note"])
        lines = [f"    {quote}{key}{quote}: {generator.choice(VALUES[:13] + NUMBERS)}{comma}" for key in keys]
        body = "\n".join(lines)
        yield f"{{\n  train_batch_size: 8\n  activation_checkpointing: {{\n{body}\n  }}\n}}\n"


def deepspeed_reads(text):
    """The six keys, or None where DeepSpeed refuses the file."""
    try:
        parameters = hjson.loads(text, object_pairs_hook=dict_raise_error_on_duplicate_keys)
        block = DeepSpeedActivationCheckpointingConfig(parameters)
    except Exception:  # noqa: BLE001 - hjson's, ValueError, AttributeError: all refusals
        return None
    keys = {flag: bool(getattr(block, flag)) for flag in FLAGS}
    number = block.number_checkpoints
    keys["number_checkpoints"] = number if type(number) is int else None
    return keys


def tidemark_reads(tidemark, path):
    done = subprocess.run([tidemark, "lint", str(path), "--json"], capture_output=True, text=True)
    if not done.stdout:
        if done.returncode != 1 or not done.stderr.startswith("tidemark: "):
            raise AssertionError(f"exit {done.returncode}: {done.stderr}")
        return None
    printed = json.loads(done.stdout)
    refused = any(finding["id"] == "block-type" for finding in printed["findings"])
    return None if refused else printed["config"]


def main():
    arguments = parse_arguments()
    path = arguments.output / "ds_config.json"
    passed = failed = 0
    for text in itertools.chain(block_texts(), style_texts(), random_texts(300)):
        path.write_bytes(text.encode())
        theirs, ours = deepspeed_reads(text), tidemark_reads(arguments.tidemark, path)
        agrees = theirs == ours
        passed, failed = passed + agrees, failed + (not agrees)
        if not agrees:
            print(f"FAILED\n{text}\nDeepSpeed {theirs}\ntidemark  {ours}")
    return exit_status(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
