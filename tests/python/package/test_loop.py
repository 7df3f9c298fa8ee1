"""The loop closed: a Transformers model is exported and swept, the recommendation applied, three
steps trained with the losses of the plain model, and the peak is the promised one."""

import pytest
import tidemark
import torch

from conftest import Chain, sweep, tokens, train_step

STEPS = 3


def tiny_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=128, n_positions=64, n_embd=64, n_layer=6, n_head=4))


def batch():
    ids = torch.randint(0, 128, (4, 64))
    return {"input_ids": ids, "labels": ids}


def train(model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    torch.manual_seed(2)
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = model(**data).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        del loss
    return losses


@pytest.fixture(scope="module")
def swept(request, tmp_path_factory):
    """A sweep with a budget of two thirds of the plain step's peak."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("loop")
    torch.manual_seed(5)
    data = batch()
    tidemark.export(tiny_gpt2(), kwargs=data, path=folder / "m.pt2", weightless=True)
    tool = request.config.getoption("--tidemark")
    plain = sweep(tool, folder / "m.pt2", folder / "plain", "--number-checkpoints", "none")
    budget = plain["rows"][0]["predicted"]["live_peak_bytes"] * 2 // 3
    sweep(tool, folder / "m.pt2", folder / "out", "--method", "non_reentrant", "--budget",
          str(budget))
    return folder / "out", data, budget


def test_three_steps_with_the_recommendation(swept):
    folder, data, budget = swept
    plain = train(tiny_gpt2().train(), data)
    model = tiny_gpt2().train()
    applied = tidemark.apply(model, folder)
    assert len(applied.segments) >= 1
    assert train(model, data) == plain

    def step():
        model(**data).loss.backward()

    model.zero_grad(set_to_none=True)
    result = tidemark.check(model, step)
    print(result)
    assert result.ok and abs(result.error) < 0.01 and not result.differences
    assert result.measured_bytes <= budget


def test_every_row_is_as_promised(swept):
    folder, data, _ = swept
    model = tiny_gpt2().train()
    for row in range(5):
        with tidemark.apply(model, folder, row=row):
            model.zero_grad(set_to_none=True)
            result = tidemark.check(model, lambda: model(**data).loss.backward())
            assert result.ok, (row, str(result))


def test_a_check_says_what_differs(swept):
    folder, data, _ = swept
    model = tiny_gpt2().train()
    with tidemark.apply(model, folder):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        larger = {name: value.repeat(2, 1) for name, value in data.items()}
        result = tidemark.check(model, lambda: model(**larger).loss.backward())
        assert not result.ok and result.error > 0.1
        assert any("gradients existed" in difference for difference in result.differences)
        assert "NOT as promised" in str(result)
        with torch.no_grad():
            idle = tidemark.check(model, lambda: model(**data))
        assert any("never ran" in difference for difference in idle.differences)
    with pytest.raises(tidemark.PlanError, match="no plan"):
        tidemark.check(model, lambda: None)


def test_the_trainers_callback(swept, tmp_path):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    from tidemark.trainer import TidemarkCallback

    folder, data, _ = swept
    rows = [{name: value[i] for name, value in data.items()} for i in range(4)] * 2
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, max_steps=2, report_to=[],
        use_cpu=True, save_strategy="no", disable_tqdm=True, max_grad_norm=0.0)
    callback = TidemarkCallback(folder)
    model = tiny_gpt2()
    Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[callback]).train()
    assert callback.check is not None
    assert abs(callback.check.error) < 0.01 and callback.check.ok, str(callback.check)
    assert tidemark.applied_plan(model) is None


def test_deepspeeds_two_lines():
    """deepspeed.checkpointing.checkpoint is called as checkpoint(function, *args)."""
    deepspeed = pytest.importorskip("deepspeed")
    model, inputs = Chain(2), tokens()
    plain = train_step(model, inputs)
    deepspeed.checkpointing.reset()
    with tidemark.apply(model, [["layers.0"], ["layers.1"]],
                        checkpoint=deepspeed.checkpointing.checkpoint):
        again = train_step(model, inputs)
    assert torch.equal(plain[0], again[0])
    assert all(torch.equal(a, b) for a, b in zip(plain[1], again[1]))
