"""What `tidemark export` writes, read by the frameworks' own classes; and its effect: the model that
they configure reaches the row's predicted peak within 1 %."""

import json
import subprocess

import pytest
import tidemark
import torch
from tidemark._check import PeakMeter

from conftest import sweep
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


def test_accelerate(swept, tmp_path):
    pytest.importorskip("accelerate")
    from accelerate.commands.config.config_args import load_config_from_file

    text, _ = export(swept, "accelerate")
    path = tmp_path / "accelerate.yaml"
    path.write_text(text)
    config = load_config_from_file(str(path))
    assert config.fsdp_config["fsdp_activation_checkpointing"] is True
    assert config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"] == "GPT2Block"
    layers = [m for m in tiny_gpt2().modules() if type(m).__name__ == "GPT2Block"]
    assert len(layers) == LAYERS


def test_torchtitan(swept):
    tomllib = pytest.importorskip("tomllib")
    text, _ = export(swept, "torchtitan")
    assert tomllib.loads(text) == {"activation_checkpoint": {"mode": "full", "early_stop": True}}


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


def test_deepspeed_pipeline(swept):
    text, _ = export(swept, "deepspeed-pipeline", checkpoints=3, method="reentrant")
    document = json.loads(text)
    assert document["pipeline"] == {"activation_checkpoint_interval": 2, "use_reentrant": True}
    assert document["tidemark_checkpointable_layers"] == ["GPT2Block"]


@pytest.mark.parametrize("target, words", [
    ("hf", "single layers"), ("torchtitan", "single layers"), ("accelerate", "single layers"),
    ("torch", "single layers"), ("megatron-deepspeed", "reentrant"),
])
def test_groups_are_refused_where_there_are_none(swept, target, words):
    tool, folder, document, _ = swept
    number, _ = row_of(document, 3, "non_reentrant")
    done = subprocess.run([tool, "export", str(folder), "--to", target, "--row", str(number)],
                          capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and "--row" in done.stderr
