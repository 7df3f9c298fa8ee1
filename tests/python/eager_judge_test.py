"""The outside judge: Python eager with torch.utils.checkpoint against the predicted peak.

For each model and method the eager step is run with its blocks checkpointed one by one and in
groups. Its peak is the highest level of the profiler's [memory] events, which are exact on the CPU,
on top of what existed before the step. The tool records the plain exported step and predicts every
setting; the two may differ by at most 0.1 %.

    eager_judge_test.py --tidemark build/release/tidemark --output DIR [--only NAME]
"""

import argparse
import copy
import itertools
import json
import shutil
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from judged import exit_status, parse_arguments

TOLERANCE = 0.001
STEADY_STEPS = 1


class Block(nn.Module):
    """A pre-norm transformer block with active dropout."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (
            t.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for t in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = self.projection(y.transpose(1, 2).reshape(batch, length, width))
        x = x + F.dropout(y, self.dropout, self.training)
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    def __init__(self, layers, width, length, vocabulary=256, dropout=0.1):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList([Block(width, 4, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, index, target):
        x = self.tokens(index) + self.positions(torch.arange(index.shape[1], device=index.device))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), target.flatten())


class Classifier(nn.Module):
    """A vision model with its loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, labels):
        return F.cross_entropy(self.model(images), labels)


def gpt(layers, width, length, batch):
    torch.manual_seed(0)
    model = Gpt(layers, width, length)
    tokens = torch.randint(0, 256, (batch, length)), torch.randint(0, 256, (batch, length))
    return model, tokens, [(model, "blocks")]


def resnet50():
    import torchvision

    model = Classifier(torchvision.models.resnet50(weights=None, num_classes=10))
    runs = [(model.model, f"layer{i}") for i in range(1, 5)]
    return model, (torch.randn(4, 3, 64, 64), torch.randint(0, 10, (4,))), runs


def vit():
    import timm

    inner = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, depth=6, img_size=96, num_classes=10
    )
    model = Classifier(inner)
    return model, (torch.randn(8, 3, 96, 96), torch.randint(0, 10, (8,))), [(inner, "blocks")]


def convnext():
    import timm

    inner = timm.create_model(
        "convnext_atto", pretrained=False, depths=(2, 2, 4, 2), num_classes=10
    )
    model = Classifier(inner)
    runs = [(stage, "blocks") for stage in inner.stages]
    return model, (torch.randn(4, 3, 64, 64), torch.randint(0, 10, (4,))), runs


def encoder(dropout=0.1):
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=dropout, batch_first=True)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([copy.deepcopy(layer) for _ in range(6)])
            self.stem = nn.Linear(64, 64)
            self.head = nn.Linear(64, 10)

        def forward(self, x, labels):
            x = self.stem(x)
            for layer in self.layers:
                x = layer(x)
            return F.cross_entropy(self.head(x.mean(1)), labels)

    model = Encoder()
    return model, (torch.randn(8, 64, 64), torch.randint(0, 10, (8,))), [(model, "layers")]


MODELS = {
    "gpt_narrow": lambda: gpt(layers=12, width=64, length=128, batch=4),
    "gpt_deep": lambda: gpt(layers=48, width=32, length=64, batch=2),
    "resnet50": resnet50,
    "vit": vit,
    "convnext": convnext,
    "encoder": encoder,
}


def passed_and_captured(x, args):
    """What a checkpoint is passed: what the blocks before it made. The rest (masks, positions) its
    function captures, as keywords, which the reentrant form does not know."""
    made = list(itertools.takewhile(lambda arg: getattr(arg, "requires_grad", False), args))
    return [x, *made], args[len(made):]


class Checkpointed(nn.Module):
    """Runs a group of blocks under one checkpoint."""

    def __init__(self, blocks, use_reentrant):
        super().__init__()
        self.group = nn.ModuleList(blocks)
        self.use_reentrant = use_reentrant

    def run(self, x, *args, **kwargs):
        for block in self.group:
            x = block(x, *args, **kwargs)
        return x

    def forward(self, x, *args, **kwargs):
        passed, captured = passed_and_captured(x, args)
        return checkpoint(lambda *given: self.run(*given, *captured, **kwargs), *passed,
                          use_reentrant=self.use_reentrant)


class Skipped(nn.Module):
    def forward(self, x, *args, **kwargs):
        return x


def checkpoint_blocks(runs, sizes, use_reentrant):
    """Puts each group of blocks behind one checkpoint; gives back what restores the model."""
    undo = []
    for (parent, name), groups in zip(runs, sizes):
        blocks = list(getattr(parent, name))
        container = type(getattr(parent, name))
        replaced, begin = [], 0
        for size in groups:
            replaced.append(Checkpointed(blocks[begin : begin + size], use_reentrant))
            replaced += [Skipped() for _ in range(size - 1)]
            begin += size
        undo.append((parent, name, getattr(parent, name)))
        if container is nn.Sequential:
            setattr(parent, name, nn.Sequential(*replaced))
        else:
            setattr(parent, name, nn.ModuleList(replaced))
    return undo


def static_bytes(model, inputs):
    tensors = list(model.parameters()) + list(model.buffers()) + list(inputs)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def eager_peak(model, inputs):
    """Highest level of the step above its start, from the profiler's memory events."""
    for _ in range(STEADY_STEPS):
        model.zero_grad(set_to_none=True)
        model(*inputs).backward()
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        loss = model(*inputs)
        loss.backward()
        del loss  # and the graph, whose checkpoints hold their generator states
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda e: e.start_ns())
    level = peak = 0
    for event in events:
        level += event.nbytes()
        peak = max(peak, level)
    gradients = sum(p.grad.untyped_storage().nbytes() for p in model.parameters())
    if level != gradients:
        raise AssertionError(f"memory events do not add up: {level} left, {gradients} of gradients")
    return peak


def group_sizes(runs, segments):
    """[[2, 2], [3]]: the sizes of the tool's segments, run by run."""
    sizes = []
    names = [name for segment in segments for name in segment]
    if not names:
        return [[] for _ in runs]
    remaining = iter(segments)
    for parent, name in runs:
        blocks, groups = len(getattr(parent, name)), []
        while sum(groups) < blocks:
            groups.append(len(next(remaining)))
        sizes.append(groups)
    return sizes


def sweep(tidemark, path, output):
    command = [
        tidemark, "sweep", str(path), "--no-execute", "--method", "both",
        "--partition-activations", "off", "--cpu-checkpointing", "off",
        "--contiguous-memory-optimization", "off",
        "--threads", str(torch.get_num_threads()), "-o", str(output),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return json.loads((output / "sweep.json").read_text())


def judge(name, tidemark, folder):
    model, inputs, runs = MODELS[name]()
    model.train()
    path = folder / f"{name}.pt2"
    torch.export.save(torch.export.export(model, inputs), path)
    shutil.rmtree(folder / f"{name}.sweep", ignore_errors=True)
    result = sweep(tidemark, path, folder / f"{name}.sweep")
    # One block a checkpoint, every grouping of the tool up to four, and the largest.
    passed = failed = 0
    for row in result["rows"]:
        setting = row["setting"]
        if row["status"] != "ok":
            print(f"{name}: {setting} is {row['status']}: {row['notes']}")
            failed += 1
            continue
        use_reentrant = setting["method"] == "reentrant"
        undo = []
        if setting["number_checkpoints"] is not None:
            undo = checkpoint_blocks(runs, group_sizes(runs, setting["segments"]), use_reentrant)
        base = static_bytes(model, inputs)
        measured = base + eager_peak(model, inputs)
        for parent, attribute, original in undo:
            setattr(parent, attribute, original)
        predicted = row["predicted"]["live_peak_bytes"]
        error = (predicted - measured) / measured
        verdict = abs(error) <= TOLERANCE
        passed, failed = passed + verdict, failed + (not verdict)
        print(
            f"{name:12} {setting['number_checkpoints'] or 'none':>5} {setting['method']:13} "
            f"eager {measured:>12,} predicted {predicted:>12,} {100 * error:+.4f} % "
            f"{'' if verdict else 'FAILED'}",
            flush=True,
        )
    return passed, failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parse_arguments(parser)
    torch.set_num_threads(arguments.threads)
    passed = failed = 0
    for name in [arguments.only] if arguments.only else MODELS:
        good, bad = judge(name, arguments.tidemark, arguments.output)
        passed, failed = passed + good, failed + bad
    return exit_status(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
