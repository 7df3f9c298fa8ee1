"""apply(): the same losses and gradients, the peak of PyTorch's own checkpoint, and back again."""

import copy
import gc
import json
import weakref

import pytest
import tidemark
import torch
from tidemark._check import PeakMeter

from conftest import Chain, groups, same, tokens, train_step


def peak(model, inputs):
    for _ in range(2):  # the second step is the steady one
        model.zero_grad(set_to_none=True)
        meter = PeakMeter(torch.device("cpu"))
        meter.start()
        model(*inputs).backward()
        result = meter.stop()
    return result


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_losses_and_gradients_are_bit_equal(size):
    model, inputs = Chain(), tokens()
    plain = train_step(model, inputs)
    with tidemark.apply(model, groups(6, size)) as applied:
        assert same(train_step(model, inputs), plain)
        assert all((s.forward_count, s.recompute_count) == (1, 1) for s in applied.segments)
    assert same(train_step(model, inputs), plain)


def test_the_peak_is_that_of_checkpointing_whole_groups():
    import eager_judge_test as eager

    model, inputs, runs = eager.gpt(layers=4, width=32, length=64, batch=2)

    for size in (1, 2, 3):
        plan = groups(4, size, "blocks")
        undo = eager.checkpoint_blocks(runs, [[len(g) for g in plan]], False)
        expected = peak(model, inputs)
        for parent, attribute, original in undo:
            setattr(parent, attribute, original)
        with tidemark.apply(model, plan):
            assert peak(model, inputs) == expected


def test_structure_and_names_stay():
    model = Chain()
    names = list(model.state_dict())
    with tidemark.apply(model, groups(6, 2)):
        assert list(model.state_dict()) == names
        assert [name for name, _ in model.named_modules()] == [n for n, _ in Chain().named_modules()]
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_a_module_that_is_several_blocks_is_checkpointed_at_each_call():
    model, inputs = Chain(4), tokens()
    for i in range(1, 4):
        model.layers[i] = model.layers[0]
    plain = train_step(model, inputs)
    with tidemark.apply(model, groups(4, 1)) as applied:
        assert same(train_step(model, inputs), plain)
        assert [(s.forward_count, s.recompute_count) for s in applied.segments] == [(4, 4)]
    with pytest.raises(tidemark.PlanError, match="are one module"):
        tidemark.apply(model, groups(4, 2))
    assert tidemark.applied_plan(model) is None


def test_stretches_of_a_graph_are_no_modules():
    with pytest.raises(tidemark.PlanError, match="--blocks"):
        tidemark.apply(Chain(), [["ops 1-6"], ["ops 7-12"]])


def test_applying_again_replaces_the_plan():
    model, inputs = Chain(), tokens()
    first = tidemark.apply(model, groups(6, 1))
    second = tidemark.apply(model, groups(6, 3))
    train_step(model, inputs)
    assert tidemark.applied_plan(model) is second
    assert [s.forward_count for s in first.segments] == [0] * 6
    assert [s.recompute_count for s in second.segments] == [1, 1]
    first.remove()  # was replaced: changes nothing
    assert tidemark.applied_plan(model) is second
    tidemark.remove(model)
    tidemark.remove(model)
    assert tidemark.applied_plan(model) is None
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_evaluation_and_no_grad_recompute_nothing():
    model, inputs = Chain(), tokens()
    with tidemark.apply(model, groups(6, 2)) as applied:
        with torch.no_grad():
            model(*inputs)
        assert all(s.forward_count == 0 for s in applied.segments)
        model.eval()
        plain = train_step(copy.deepcopy(Chain()).eval(), inputs)
        assert plain[0].isfinite()


def test_a_layer_that_is_left_out_starts_a_new_checkpoint():
    class Skipping(Chain):
        def forward(self, tokens, targets):
            x = self.embed(tokens)
            for i, layer in enumerate(self.layers):
                if i != 1:
                    x = layer(x)
            return self.head(x).square().mean()

    model, inputs = Skipping(), tokens()
    plain = train_step_some(model, inputs)
    with tidemark.apply(model, groups(6, 3)):
        assert all(torch.equal(a, b) for a, b in zip(train_step_some(model, inputs), plain))


def train_step_some(model, inputs):
    model.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    model(*inputs).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_work_between_the_blocks_runs_once_and_keeps_its_gradient():
    class Mixed(Chain):
        def forward(self, tokens, targets):
            x = self.embed(tokens)
            for layer in self.layers:
                x = torch.tanh(layer(x)) * 1.5
            return self.head(x).square().mean()

    model, inputs = Mixed(), tokens()
    plain = train_step(model, inputs)
    with tidemark.apply(model, groups(6, 3)):
        assert same(train_step(model, inputs), plain)


def test_two_backward_passes_and_autocast():
    model, inputs = Chain(), tokens()

    def run():
        model.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(*inputs)
        loss.backward(retain_graph=True)
        loss.backward()
        return loss.detach(), [p.grad.clone() for p in model.parameters()]

    plain = run()
    with tidemark.apply(model, groups(6, 2)):
        assert same(run(), plain)


def test_nothing_is_held_after_the_step():
    model, inputs = Chain(), tokens()
    kept = []

    def note(module, args):
        kept.append(weakref.ref(args[0]))

    handle = model.layers[2].register_forward_pre_hook(note)
    gc.disable()
    try:
        with tidemark.apply(model, groups(6, 2)):
            train_step(model, inputs)
            assert all(reference() is None for reference in kept)
    finally:
        gc.enable()
        handle.remove()


def test_a_compiled_block_and_a_compiled_model_train_the_same():
    model, inputs = Chain(2), tokens(2, 16)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    plain = train_step(model, inputs)
    with tidemark.apply(model, groups(2, 1)):
        compiled = torch.compile(model, backend="aot_eager")
        again = train_step(compiled, inputs)
    assert torch.allclose(again[0], plain[0])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(again[1], plain[1]))
    torch._dynamo.reset()
    with tidemark.apply(model, groups(2, 2)):
        compiled = torch.compile(model, backend="aot_eager")
        again = train_step(compiled, inputs)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(again[1], plain[1]))
    torch._dynamo.reset()


def test_a_sharded_model_is_refused_in_words():
    model = Chain(2)
    sharded = type("FSDPModule", (), {})
    model.layers[0].__class__ = type("FSDPBlock", (sharded, type(model.layers[0])), {})
    with pytest.raises(tidemark.PlanError, match="before fully_shard"):
        tidemark.apply(model, groups(2, 1))


@pytest.mark.parametrize("plan, words", [
    ([["layers.9"]], "has no module 'layers.9'"),
    ([["layers.0"], ["layers.0"]], "in two groups"),
    (["layers.0"], "list of groups"),
    ("/nowhere", "cannot be read"),
])
def test_a_wrong_plan_is_one_sentence(plan, words):
    with pytest.raises(tidemark.PlanError, match=words):
        tidemark.apply(Chain(2), plan)


def row(**setting):
    base = {"number_checkpoints": 1, "partition_activations": False, "cpu_checkpointing": "off",
            "method": "non_reentrant", "segments": [["layers.0", "layers.1"]]}
    return {"setting": {**base, **setting}, "status": "ok",
            "predicted": {"live_peak_bytes": 1000, "static_bytes": 400}}


def test_the_recommended_row_of_a_sweep_is_taken(tmp_path):
    document = {"rows": [row(number_checkpoints=None, segments=[]), row()],
                "recommended": {"written": {"row": 1}}, "device": {"kind": "cpu"}}
    (tmp_path / "sweep.json").write_text(json.dumps(document))
    plan = tidemark.load_plan(tmp_path)
    assert plan.segments == (("layers.0", "layers.1"),)
    assert plan.promise.rise_bytes == 600
    assert tidemark.load_plan(tmp_path, row=0).segments == ()
    with pytest.raises(tidemark.PlanError, match="no row 2"):
        tidemark.load_plan(tmp_path, row=2)
    document["recommended"] = {"written": None}
    (tmp_path / "sweep.json").write_text(json.dumps(document))
    with pytest.raises(tidemark.PlanError, match="nothing"):
        tidemark.load_plan(tmp_path)


def test_a_reentrant_row_is_promised_its_twins_peak(tmp_path):
    twin = row()
    twin["predicted"] = {"live_peak_bytes": 900, "static_bytes": 400}
    document = {"rows": [row(method="reentrant"), twin], "recommended": {"written": {"row": 0}}}
    (tmp_path / "sweep.json").write_text(json.dumps(document))
    assert tidemark.load_plan(tmp_path).promise.live_peak_bytes == 900
    document["rows"].pop()
    (tmp_path / "sweep.json").write_text(json.dumps(document))
    assert "reentrant" in tidemark.load_plan(tmp_path).notes[0]


def test_what_only_deepspeed_does_is_refused():
    with pytest.raises(tidemark.PlanError, match="partitions"):
        tidemark.apply(Chain(2), row(partition_activations=True))


def test_offload_on_a_cpu_is_said_and_left_out():
    model, inputs = Chain(2), tokens()
    plain = train_step(model, inputs)
    with pytest.warns(UserWarning, match="not on a GPU"):
        applied = tidemark.apply(model, row(cpu_checkpointing="async"))
    assert same(train_step(model, inputs), plain)
    applied.remove()


def test_another_checkpoint_function_serves_single_blocks():
    calls = []

    def checkpoint(function, *args):
        calls.append(len(args))
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=True)

    model, inputs = Chain(2), tokens()
    plain = train_step(model, inputs)
    with tidemark.apply(model, groups(2, 1), checkpoint=checkpoint):
        assert same(train_step(model, inputs), plain)
    assert calls == [1, 1]
    with pytest.raises(tidemark.PlanError, match="one module a checkpoint"):
        tidemark.apply(model, groups(2, 2), checkpoint=checkpoint)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """A mesh of one process."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    if not dist.is_initialized():
        store = tmp_path_factory.mktemp("store") / "file"
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        yield init_device_mesh("cpu", (1,))
        dist.destroy_process_group()
    else:
        yield init_device_mesh("cpu", (1,))


@pytest.mark.parametrize("size", [1, 2])
def test_a_model_is_sharded_after_the_plan_is_in_force(mesh, size):
    """Groups of several sharded modules: each gathers its parameters when it is made again."""
    from torch.distributed.fsdp import fully_shard

    model, inputs = Chain(4), tokens()
    plain = train_step(copy.deepcopy(model), inputs)
    applied = tidemark.apply(model, groups(4, size))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        loss = model(*inputs)
        loss.backward()
        assert torch.equal(loss, plain[0])
        assert all(torch.equal(p.grad.full_tensor(), g)
                   for p, g in zip(model.parameters(), plain[1]))
    assert all((s.forward_count, s.recompute_count) == (2, 2) for s in applied.segments)
    with pytest.raises(tidemark.PlanError, match="before fully_shard"):
        tidemark.apply(model, groups(4, size))


def test_a_plan_is_put_into_force_on_a_compiled_model_and_taken_back():
    model, inputs = Chain(2, dropout=0.0), tokens(2, 16)
    plain = train_step(model, inputs)
    compiled = torch.compile(model, backend="aot_eager")

    def check_step():
        again = train_step(compiled, inputs)
        assert torch.allclose(again[0], plain[0])
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(again[1], plain[1]))
        return torch._dynamo.utils.counters["frames"]["ok"]

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    before = check_step()
    tidemark.apply(compiled, groups(2, 1))
    assert check_step() > before  # compiled anew, with the checkpoints
    tidemark.remove(compiled)
    check_step()
    torch._dynamo.reset()


def test_kept_operators_serve_eager_and_compiled_models():
    from tidemark._selective import Calls

    model, inputs = Chain(2, dropout=0.0), tokens(2, 16)
    plain = train_step(model, inputs)
    plan = tidemark.Plan(segments=(("layers.0",), ("layers.1",)),
                         kept=({"aten::addmm": Calls(frozenset({0}), 2)},) * 2)
    with tidemark.apply(model, plan) as applied:
        assert same(train_step(model, inputs), plain)
        assert all(s.difference is None for s in applied.segments)
        again = train_step(torch.compile(model, backend="aot_eager"), inputs)
    assert torch.allclose(again[0], plain[0])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(again[1], plain[1]))
    torch._dynamo.reset()
