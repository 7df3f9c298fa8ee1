"""export(): the step that eager runs, or clear words."""

import json
import zipfile

import pytest
import tidemark
import torch
from torch import nn

from conftest import Chain, tokens


def graph_module(path):
    """What stands in the file, which PyTorch itself does not load where it holds no values."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("models/model.json"))
        return json.loads(archive.read(name))["graph_module"]


def targets(path):
    return [node["target"] for node in graph_module(path)["graph"]["nodes"]]


def parameters(path):
    specs = graph_module(path)["signature"]["input_specs"]
    return [spec["parameter"]["parameter_name"] for spec in specs if "parameter" in spec]


def test_the_step_is_exported_in_training_mode_and_the_model_left_as_it_was(tmp_path):
    model = Chain(2).eval()
    done = tidemark.export(model, tokens(), path=tmp_path / "m.pt2", verify=True)
    assert not done.weightless and done.loss is not None
    assert any("dropout" in target for target in targets(done.path))
    assert not model.training and "forward" not in model.__dict__
    assert all(p.grad is None for p in model.parameters())


def test_a_weightless_file_is_small_and_has_the_same_operators(tmp_path):
    model = Chain(2, width=64)
    whole = tidemark.export(model, tokens(), path=tmp_path / "whole.pt2")
    hollow = tidemark.export(model, tokens(), path=tmp_path / "hollow.pt2", weightless=True)
    assert hollow.weightless and targets(hollow.path) == targets(whole.path)
    size = sum(p.nbytes for p in model.parameters())
    assert (tmp_path / "hollow.pt2").stat().st_size < (tmp_path / "whole.pt2").stat().st_size - size / 2


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(0, 1).transpose(0, 1).contiguous().view(-1).square().mean()


def test_a_contiguous_call_stays_where_it_has_nothing_to_do(tmp_path):
    """On another device the operator before it may lay its result out otherwise."""
    done = tidemark.export(Transposed(), torch.ones(2, 3), path=tmp_path / "m.pt2")
    assert "torch.ops.aten.contiguous.default" in targets(done.path)


@pytest.mark.parametrize("arguments, words", [
    (((torch.ones(2),), "m.pt2"), "path="),
    (({"x": torch.ones(2)},), "kwargs=batch"),
])
def test_misplaced_arguments_are_told(arguments, words):
    with pytest.raises(TypeError, match=words):
        tidemark.export(Transposed(), *arguments)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(16, 8)
        self.head = nn.Linear(8, 16, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids)).square().mean()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_parameters_stay_one_in_a_file_without_values(tmp_path, device):
    with torch.device(device):
        model, ids = Tied(), torch.zeros(4, dtype=torch.long)
    done = tidemark.export(model, (ids,), path=tmp_path / "m.pt2", weightless=True)
    assert parameters(done.path) == ["embedding.weight"]


def test_a_model_on_the_meta_device_is_exported(tmp_path):
    with torch.device("meta"):
        model = Chain(2)
        inputs = tokens()
    assert tidemark.export(model, inputs, path=tmp_path / "m.pt2").weightless
    with pytest.raises(tidemark.ExportError, match="no values"):
        tidemark.export(model, inputs, path=tmp_path / "m.pt2", verify=True)


class Doubled(torch.autograd.Function):
    """Its backward is not what its forward's operators would give."""

    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return Doubled.apply(self.linear(x)).square().mean()


def test_a_lost_backward_is_found(tmp_path):
    done = tidemark.export(Custom(), (torch.randn(2, 4),), path=tmp_path / "m.pt2")
    assert "Doubled" in done.notes[0]
    with pytest.raises(tidemark.ExportError, match="gradient of linear.* differs"):
        tidemark.export(Custom(), (torch.randn(2, 4),), path=tmp_path / "m.pt2", verify=True)


class Outputs(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.form = form

    def forward(self, x):
        y = self.linear(x)
        return self.form(y)


@pytest.mark.parametrize("form, loss", [
    (lambda y: y.mean(), None),
    (lambda y: {"loss": y.mean(), "logits": y}, None),
    (lambda y: (y.mean(), y), None),
    (lambda y: {"cost": y.mean()}, "cost"),
    (lambda y: y, lambda y: y.square().mean()),
])
def test_the_loss_is_found(tmp_path, form, loss):
    done = tidemark.export(Outputs(form), (torch.randn(2, 4),), loss=loss, path=tmp_path / "m.pt2")
    program = torch.export.load(done.path)
    assert len(program.graph_signature.user_outputs) == 1


def test_other_outputs_are_kept_when_asked_for(tmp_path):
    done = tidemark.export(Outputs(lambda y: {"loss": y.mean(), "logits": y}), (torch.randn(2, 4),),
                           path=tmp_path / "m.pt2", outputs=True)
    assert len(torch.export.load(done.path).graph_signature.user_outputs) == 2


def test_what_stops_an_export_is_said(tmp_path, capsys):
    path = tmp_path / "m.pt2"
    inputs = (torch.randn(2, 4),)
    with pytest.raises(tidemark.ExportError, match="gives no loss"):
        tidemark.export(Outputs(lambda y: y), inputs, path=path)
    with pytest.raises(tidemark.ExportError,
                       match=r"by the values of a tensor.*\(at \S*test_export.py:\d+: return self.form"):
        tidemark.export(Outputs(lambda y: y.mean() if y.sum() > 0 else -y.mean()), inputs, path=path)
    with pytest.raises(tidemark.ExportError, match="calls torch.utils.checkpoint itself"):
        inside = lambda y: torch.utils.checkpoint.checkpoint(torch.tanh, y, use_reentrant=False).mean()  # noqa: E731
        tidemark.export(Outputs(inside), inputs, path=path)
    with pytest.raises(tidemark.ExportError, match="not called with these arguments"):
        tidemark.export(Outputs(lambda y: y.mean()), (), path=path)
    model = Chain(2)
    with tidemark.apply(model, [["layers.0"]]):
        with pytest.raises(tidemark.ExportError, match="plan is in force"):
            tidemark.export(model, tokens(), path=path)
    assert not path.exists()
    assert "def forward" not in capsys.readouterr().err, "PyTorch's graph buries the sentence"


def test_transformers_attention_is_eagers(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2))
    ids = tokens()[0]
    batch = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
    done = tidemark.export(model, kwargs=batch, path=tmp_path / "m.pt2", verify=True)
    assert "masks nothing" in done.notes[0]
    program = torch.export.load(done.path)
    attention = [node for node in program.graph.nodes
                 if "scaled_dot_product_attention" in str(node.target)]
    assert len(attention) == 2
    for node in attention:
        assert node.kwargs.get("enable_gqa") is True
        assert True in node.args[4:] or node.kwargs.get("is_causal") is True
        assert len(node.args) < 4 or node.args[3] is None
    assert model.config.use_cache  # as it was
