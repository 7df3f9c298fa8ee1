"""What `tidemark export` writes, read by the frameworks' own classes; and its effect: the model that
they configure reaches the row's predicted peak within 1 %."""

import argparse
import copy
import dataclasses
import json
import subprocess

import pytest
import tidemark
import torch
from tidemark._check import PeakMeter

from conftest import Chain, sweep, tokens
from test_loop import batch, tiny_gpt2

LAYERS = 6


@pytest.fixture(scope="module")
def swept(request, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("targets")
    torch.manual_seed(5)
    data = batch()
    tidemark.export(tiny_gpt2(), kwargs=data, path=folder / "m.pt2", weightless=True)
    tool = request.config.getoption("--tidemark")
    document = sweep(tool, folder / "m.pt2", folder / "out", "--method", "both",
                     "--number-checkpoints", f"none,3,{LAYERS}")
    return tool, folder / "out", document, data


def row_of(document, checkpoints, method):
    for number, row in enumerate(document["rows"]):
        setting = row["setting"]
        if setting["number_checkpoints"] == checkpoints and setting["method"] == method:
            return number, row["predicted"]
    raise AssertionError("no such row")


def export(swept, target, checkpoints=LAYERS, method="non_reentrant"):
    tool, folder, document, _ = swept
    number, predicted = row_of(document, checkpoints, method)
    done = subprocess.run([tool, "export", str(folder), "--to", target, "--row", str(number)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, predicted


def error_of(model, data, predicted):
    for _ in range(2):  # the second step is the steady one
        model.zero_grad(set_to_none=True)
        meter = PeakMeter(torch.device("cpu"))
        meter.start()
        model(**data).loss.backward()
        rise = meter.stop()
    measured = predicted["static_bytes"] + rise
    return abs(measured / predicted["live_peak_bytes"] - 1)


@pytest.mark.parametrize("method", ["non_reentrant", "reentrant"])
def test_hugging_face(swept, tmp_path, method):
    from transformers import TrainingArguments

    text, predicted = export(swept, "hf", method=method)
    fields = json.loads(text)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], **fields)
    model = tiny_gpt2().train()
    model.config.use_cache = False
    model.gradient_checkpointing_enable(arguments.gradient_checkpointing_kwargs)
    assert error_of(model, swept[3], predicted) < 0.01


@pytest.mark.parametrize("method", ["non_reentrant", "reentrant"])
def test_plain_torch(swept, method):
    if method == "reentrant":
        pytest.skip("Transformers' blocks get keywords, which reentrant checkpoints do not take")
    text, predicted = export(swept, "torch", method=method)
    namespace = {}
    exec(text, namespace)
    model = namespace["apply"](tiny_gpt2().train())
    model.config.use_cache = False
    assert error_of(model, swept[3], predicted) < 0.01


def accelerate_plugin(path, monkeypatch):
    """As `accelerate launch` makes it: the file's keys go into the environment, the plugin reads it."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launch_command_parser().parse_args(
        ["--config_file", str(path), "--num_processes", "2", "train.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    assert arguments.use_fsdp
    for key, value in prepare_multi_gpu_env(arguments).items():
        if key.startswith(("FSDP_", "ACCELERATE_USE_FSDP")):
            monkeypatch.setenv(key, value)
    return FullyShardedDataParallelPlugin()


def test_accelerate(swept, tmp_path, monkeypatch):
    """The file goes through Accelerate's own launcher and plugin, and its own function that puts
    checkpoints into a model. Sharding itself is left out: it gathers parameters, which is no part of
    the prediction."""
    pytest.importorskip("accelerate")
    from types import SimpleNamespace

    from accelerate.utils.fsdp_utils import fsdp2_apply_ac

    text, predicted = export(swept, "accelerate")
    path = tmp_path / "accelerate.yaml"
    path.write_text(text)
    plugin = accelerate_plugin(path, monkeypatch)
    assert plugin.fsdp_version == 2
    assert plugin.activation_checkpointing and not plugin.activation_checkpointing_offload
    assert plugin.transformer_cls_names_to_wrap == ["GPT2Block"]
    model = tiny_gpt2().train()
    model.config.use_cache = False
    accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
    model = fsdp2_apply_ac(accelerator, model)
    assert sum(type(m).__name__ == "CheckpointWrapper" for m in model.modules()) == LAYERS
    assert error_of(model, swept[3], predicted) < 0.01


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_accelerate_draws_other_dropout(request, tmp_path, monkeypatch, dropout):
    """What the comment in the file says: gradients are not those of the step without checkpointing
    where blocks have dropout, and are where they have none."""
    pytest.importorskip("accelerate")
    from types import SimpleNamespace

    from accelerate.utils.fsdp_utils import fsdp2_apply_ac

    tool = request.config.getoption("--tidemark")
    model, inputs = Chain(4, dropout=dropout).train(), tokens()
    tidemark.export(model, inputs, path=tmp_path / "m.pt2", weightless=True)
    sweep(tool, tmp_path / "m.pt2", tmp_path / "out", "--method", "non_reentrant",
          "--number-checkpoints", "4")
    text = subprocess.run([tool, "export", tmp_path / "out", "--to", "accelerate", "--row", "0"],
                          capture_output=True, text=True, check=True).stdout
    assert ("preserve_rng_state=False" in text) == (dropout > 0)

    path = tmp_path / "accelerate.yaml"
    path.write_text(text)
    plugin = accelerate_plugin(path, monkeypatch)
    wrapped = fsdp2_apply_ac(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)),
                             copy.deepcopy(model))

    def gradients(of):
        torch.manual_seed(3)
        of(*inputs).backward()
        return [parameter.grad for parameter in of.parameters()]

    alike = [torch.equal(a, b) for a, b in zip(gradients(model), gradients(wrapped))]
    assert all(alike) == (dropout == 0)


def test_torchtitan(swept, tmp_path):
    """Torchtitan's own parser, and its own function on a model whose blocks are `layers`."""
    pytest.importorskip("torchtitan")
    from torchtitan.config import ConfigManager
    from torchtitan.distributed.activation_checkpoint import apply_ac

    text, predicted = export(swept, "torchtitan")
    path = tmp_path / "train.toml"
    path.write_text(text)
    job = ConfigManager().parse_args(["--job.config_file", str(path)])
    assert job.activation_checkpoint.mode == "full" and job.activation_checkpoint.early_stop
    model = tiny_gpt2().train()
    model.config.use_cache = False
    blocks = torch.nn.Module()
    blocks.layers = model.transformer.h  # the name that torchtitan looks for
    apply_ac(blocks, job.activation_checkpoint)
    assert error_of(model, swept[3], predicted) < 0.01


def test_deepspeed(swept, tmp_path):
    """DeepSpeed's own reader takes the file, and the groups have the predicted peak with a reentrant
    checkpoint()."""
    pytest.importorskip("deepspeed")
    import hjson
    from deepspeed.runtime.activation_checkpointing.config import (
        DeepSpeedActivationCheckpointingConfig,
    )

    text, predicted = export(swept, "deepspeed", checkpoints=3, method="reentrant")
    document = hjson.loads(text)
    assert DeepSpeedActivationCheckpointingConfig(document).number_checkpoints == 3
    segments = document["tidemark_segments"]
    assert [len(segment) for segment in segments] == [2, 2, 2]
    non_reentrant = row_of(swept[2], 3, "non_reentrant")[1]
    model = tiny_gpt2().train()
    with tidemark.apply(model, segments):
        assert error_of(model, swept[3], non_reentrant) < 0.01
    assert predicted["live_peak_bytes"] >= non_reentrant["live_peak_bytes"]


class Embedding(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.embed = model.embed

    def forward(self, tokens):
        return self.embed(tokens)


@pytest.fixture(scope="module")
def one_process():
    """DeepSpeed's own world of one process, which its PipelineModule asks for."""
    deepspeed = pytest.importorskip("deepspeed")
    import os
    from unittest import mock

    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29531"), ("RANK", "0"),
                        ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(name, value)
    # Its shared-memory kernels would be compiled here.
    with mock.patch("deepspeed.comm.torch.build_shm_op", lambda: None):
        deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    yield deepspeed
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("checkpoints", [6, 3])
def test_deepspeed_pipeline(request, tmp_path, one_process, checkpoints):
    """DeepSpeed's PipelineModule of one stage with the exported interval and layers. It counts every
    function of the stage, so that what stands before the blocks must be a multiple of the interval:
    an empty function follows the embedding where blocks go in pairs."""
    from deepspeed.pipe import PipelineModule
    from deepspeed.runtime.activation_checkpointing import checkpointing

    model, inputs = Chain(6, dropout=0.0).train(), tokens()
    tidemark.export(model, inputs, path=tmp_path / "m.pt2", weightless=True)
    document = sweep(request.config.getoption("--tidemark"), tmp_path / "m.pt2", tmp_path / "out",
                     "--method", "reentrant", "--number-checkpoints", str(checkpoints))
    predicted = document["rows"][-1]["predicted"]
    written = subprocess.run(
        [request.config.getoption("--tidemark"), "export", str(tmp_path / "out"), "--to",
         "deepspeed-pipeline", "--row", str(len(document["rows"]) - 1)],
        capture_output=True, text=True, check=True)
    exported = json.loads(written.stdout)
    interval = exported["pipeline"]["activation_checkpoint_interval"]
    assert interval == 6 // checkpoints
    assert exported["pipeline"]["use_reentrant"] is True
    assert exported["tidemark_checkpointable_layers"] == ["Block"]
    before = [Embedding(model)] + [torch.nn.Identity()] * (interval - 1)
    checkpointing.reset()
    pipe = PipelineModule(
        layers=[*before, *model.layers, model.head], num_stages=1, partition_method="uniform",
        loss_fn=lambda logits, targets: torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten()),
        activation_checkpoint_interval=interval,
        activation_checkpoint_func=checkpointing.checkpoint,
        checkpointable_layers=exported["tidemark_checkpointable_layers"])
    pipe._precompute_checkpointable_values()  # as PipelineEngine does
    assert sum(pipe.is_checkpointable_results) == checkpoints
    for _ in range(2):
        pipe.zero_grad(set_to_none=True)
        meter = PeakMeter(torch.device("cpu"))
        meter.start()
        pipe.loss_fn(pipe(inputs[0]), inputs[1]).backward()
        rise = meter.stop()
    measured = predicted["static_bytes"] + rise
    assert abs(measured / predicted["live_peak_bytes"] - 1) < 0.01, (measured, predicted)


def test_lightning(swept):
    """Lightning's DeepSpeedStrategy takes the arguments; with what it then gives to DeepSpeed, and the
    exported groups, the model has the predicted peak."""
    pytest.importorskip("lightning")
    deepspeed = pytest.importorskip("deepspeed")
    from lightning.pytorch.strategies import DeepSpeedStrategy

    text, predicted = export(swept, "lightning", method="reentrant")
    document = json.loads(text)
    strategy = DeepSpeedStrategy(**document["DeepSpeedStrategy"])
    block = strategy.config["activation_checkpointing"]
    assert not block["cpu_checkpointing"] and not block["partition_activations"]
    deepspeed.checkpointing.reset()
    strategy._set_deepspeed_activation_checkpointing()
    model = tiny_gpt2().train()
    with tidemark.apply(model, document["tidemark_segments"],
                        checkpoint=deepspeed.checkpointing.checkpoint):
        assert error_of(model, swept[3], predicted) < 0.01


def megatron_config(flags, layers):
    """Megatron-LM names its flags as the fields of its configuration, which judges them."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    parser = argparse.ArgumentParser(allow_abbrev=False)
    for field in dataclasses.fields(TransformerConfig):
        flag = "--" + field.name.replace("_", "-")
        if field.name == "distribute_saved_activations":
            parser.add_argument(flag, action="store_true")
        elif field.name.startswith("recompute_"):
            parser.add_argument(flag, type=int if field.name.endswith("layers") else str)
    given = vars(parser.parse_args(flags.split()))
    return TransformerConfig(num_layers=layers, hidden_size=32, num_attention_heads=4, **given)


def megatron_groups(config, monkeypatch):
    """Which layers its transformer block makes again together."""
    from types import SimpleNamespace

    from megatron.core import tensor_parallel
    from megatron.core.transformer.transformer_block import TransformerBlock

    groups = []

    def checkpoint(function, distribute_saved_activations, *args):
        groups.append([])
        return function(*args)

    def layer(number):
        def forward(hidden_states, context, **others):
            groups[-1].append(number)
            return hidden_states, context
        return forward

    monkeypatch.setattr(tensor_parallel, "checkpoint", checkpoint)
    layers = [layer(number) for number in range(config.num_layers)]
    block = SimpleNamespace(config=config, num_layers_per_pipeline_rank=config.num_layers,
                            _get_layer=layers.__getitem__)
    TransformerBlock._checkpointed_forward(block, None, None, None, None, None, None, None, False)
    return groups


def test_megatron_lm(swept, monkeypatch):
    """Megatron's own configuration takes the flags, and its own loop over the layers makes the row's
    groups of them; where the last one would be shorter it runs beyond the layers."""
    pytest.importorskip("megatron.core")
    for checkpoints, size in ((3, 2), (LAYERS, 1)):
        text, _ = export(swept, "megatron-lm", checkpoints=checkpoints, method="reentrant")
        config = megatron_config(text, LAYERS)
        assert (config.recompute_granularity, config.recompute_method) == ("full", "uniform")
        assert megatron_groups(config, monkeypatch) == [
            list(range(first, first + size)) for first in range(0, LAYERS, size)]
        with pytest.raises(IndexError):
            megatron_groups(megatron_config(text.replace(f" {size}\n", " 4\n"), LAYERS), monkeypatch)


@pytest.mark.parametrize("target, words", [
    ("hf", "single layers"), ("torchtitan", "single layers"), ("accelerate", "single layers"),
    ("torch", "single layers"), ("megatron-deepspeed", "reentrant"),
    ("deepspeed-pipeline", "lets go of values earlier"),
])
def test_groups_are_refused_where_there_are_none(swept, target, words):
    tool, folder, document, _ = swept
    number, _ = row_of(document, 3, "non_reentrant")
    done = subprocess.run([tool, "export", str(folder), "--to", target, "--row", str(number)],
                          capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and "--row" in done.stderr
