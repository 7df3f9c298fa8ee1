"""plan.json: a plan over whole blocks or single operators, in force on a live model, and exported."""

import json
import subprocess

import pytest
import tidemark
import torch

from conftest import Chain, same, tokens, train_step
from test_loop import batch, tiny_gpt2


class Planned:
    """A model's file, the plain step's peak, and plans for it."""

    def __init__(self, tool, folder, model, **inputs):
        self.tool, self.folder = tool, folder
        tidemark.export(model, path=folder / "m.pt2", weightless=True, **inputs)
        self.step = folder / "step.json.gz"
        self._run("record", folder / "m.pt2", "--threads", "1", "-o", self.step)
        self.plain = self.plan(None, "keep-all")["modules"]["rows"][0]["predicted"]

    def _run(self, *arguments, code=0):
        done = subprocess.run([self.tool, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done

    def budget(self, share):
        """This share of what the step has above its static memory."""
        own = self.plain["live_peak_bytes"] - self.plain["static_bytes"]
        return self.plain["static_bytes"] + int(share * own)

    def plan(self, share, planner="tide"):
        budget = 10**12 if share is None else self.budget(share)
        self._run("plan", self.step, "--threads", "1", "--budget", budget, "--planner", planner,
                  "-o", self.path)
        return json.loads(self.path.read_text())

    @property
    def path(self):
        return self.folder / "plan.json"

    def export(self, target, code=0):
        return self._run("export", self.path, "--to", target, code=code)


@pytest.fixture(scope="module")
def gpt2(request, tmp_path_factory):
    torch.set_num_threads(1)
    torch.manual_seed(5)
    data = batch()
    tool = request.config.getoption("--tidemark")
    return Planned(tool, tmp_path_factory.mktemp("gpt2"), tiny_gpt2(), kwargs=data), data


@pytest.fixture(scope="module")
def chain(request, tmp_path_factory):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    inputs = tokens()
    tool = request.config.getoption("--tidemark")
    return Planned(tool, tmp_path_factory.mktemp("chain"), Chain(), args=inputs), inputs


def checked(model, step):
    model.zero_grad(set_to_none=True)
    step()  # the second step is the steady one
    model.zero_grad(set_to_none=True)
    return tidemark.check(model, step)


@pytest.mark.parametrize("share", [0.9, 0.75, 0.6])
def test_a_plan_over_operators_is_put_into_force(gpt2, share):
    planned, data = gpt2
    document = planned.plan(share)
    assert document["modules"]["selective"] is not None
    model = tiny_gpt2().train()

    def step():
        torch.manual_seed(3)
        loss = model(**data).loss
        loss.backward()
        return loss.item()

    loss = step()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    with tidemark.apply(model, planned.path):
        assert step() == loss
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients))
        result = checked(model, step)
    print(share, result)
    assert result.ok and abs(result.error) < 0.01 and not result.differences, str(result)
    assert result.measured_bytes <= 1.001 * planned.budget(share)


def test_it_saves_time_against_whole_blocks(gpt2):
    """What the selective form is for: less is recomputed than any grouping that keeps the budget."""
    planned, _ = gpt2
    modules = planned.plan(0.75)["modules"]
    selective = modules["selective"]["predicted"]["step_seconds"]
    assert all(selective < row["predicted"]["step_seconds"] for row in modules["rows"] if row["fits"])


def test_the_exported_file_has_the_same_effect(gpt2):
    planned, data = gpt2
    predicted = planned.plan(0.75)["modules"]["selective"]["predicted"]
    namespace = {}
    exec(planned.export("torch").stdout, namespace)
    model = namespace["apply"](tiny_gpt2().train())
    model.config.use_cache = False
    from test_targets import error_of

    assert error_of(model, data, predicted) < 0.01
    refused = planned.export("hf", code=2).stderr
    assert "keeps no single operator's result" in refused and "--row" in refused


@pytest.mark.parametrize("share", [0.85, 0.6])
def test_dropout_draws_the_same_numbers(chain, share):
    planned, inputs = chain
    planned.plan(share)
    model = Chain()
    plain = train_step(model, inputs)
    with tidemark.apply(model, planned.path) as applied:
        assert same(train_step(model, inputs), plain)
        assert all(s.recompute_count == 1 for s in applied.segments)


def test_a_plan_of_whole_blocks_is_its_row(gpt2):
    planned, data = gpt2
    document = planned.plan(0.6, "every-n-blocks")
    assert document["modules"]["is_exact"]
    model = tiny_gpt2().train()
    with tidemark.apply(model, planned.path):
        result = checked(model, lambda: model(**data).loss.backward())
    assert result.ok, str(result)
    assert result.promised_bytes == document["predicted"]["live_peak_bytes"]


def test_a_form_may_be_chosen_by_its_row(gpt2):
    planned, data = gpt2
    rows = planned.plan(0.75)["modules"]["rows"]
    number = next(n for n, row in enumerate(rows) if row["setting"]["number_checkpoints"] == 2
                  and row["setting"]["method"] == "non_reentrant")
    plan = tidemark.load_plan(planned.path, row=number)
    assert [len(group) for group in plan.segments] == [3, 3] and not plan.kept


def test_what_cannot_be_told_is_refused_with_the_nearest(gpt2, tmp_path):
    planned, _ = gpt2
    document = planned.plan(0.6)
    document["modules"].update(row=None, selective=None)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    smallest = min(document["modules"]["rows"], key=lambda r: r["predicted"]["live_peak_bytes"])
    with pytest.raises(tidemark.PlanError, match="the nearest is row=") as refusal:
        tidemark.load_plan(path)
    assert f"{smallest['predicted']['live_peak_bytes']:,}" in str(refusal.value)
    del document["modules"]
    path.write_text(json.dumps(document))
    with pytest.raises(tidemark.PlanError, match="says nothing about modules"):
        tidemark.load_plan(path)


def test_another_model_than_the_recorded_one_is_found_out(chain):
    planned, inputs = chain
    planned.plan(0.85)
    assert tidemark.load_plan(planned.path).kept

    class Longer(Chain):
        pass

    model = Longer()
    for layer in model.layers:
        up = layer.up
        layer.up = torch.nn.Sequential(up, torch.nn.Linear(128, 128))
    with tidemark.apply(model, planned.path):
        result = tidemark.check(model, lambda: model(*inputs).backward())
    assert any("other operators" in difference for difference in result.differences)


def test_a_sweeps_plan_row_is_its_plan_file(chain, tmp_path):
    """The row of a plan names no modules; plan.json beside it does."""
    planned, inputs = chain
    out = tmp_path / "out"
    planned._run("sweep", planned.step, "--no-execute", "--budget", planned.budget(0.7), "-o", out)
    rows = json.loads((out / "sweep.json").read_text())["rows"]
    assert rows[-1]["planner"] == "tide" and not any(row["planner"] for row in rows[:-1])
    by_row = tidemark.load_plan(out, row=len(rows) - 1)
    by_file = tidemark.load_plan(out / "plan.json")
    assert by_row == by_file and by_row.segments
    assert not tidemark.load_plan(out).kept, "the recommended row is a setting"
    model = Chain().train()
    with tidemark.apply(model, out, row=len(rows) - 1):
        assert checked(model, lambda: train_step(model, inputs)).ok
