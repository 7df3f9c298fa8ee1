"""Runs inside a process on a phantom GPU: what PyTorch eager allocates under each setting.

Reads a model's jobs from a file, {model: [{"framework", "segments", "setting"}, ...]}, and writes
for each the peaks of a steady step. All jobs have one model-parallel size; with 2 or more this
process is one of so many ranks, each on a phantom of its own, and writes RESULT.json.RANK. With
"as_exported" a group of blocks runs as the code that torch.export makes of it, which lets go of each
value after its last use, where Python's own names hold some until their function returns.

    phantom_judge.py JOBS.json RESULT.json
"""

import gc
import json
import os
import sys
import warnings

import torch

import architectures
import eager_judge_test as judge
import estimator_models
import view_models


def hf_gpt2():
    import transformers

    config = architectures.hf("GPT2", n_layer=8, n_embd=64, n_head=4, vocab_size=128, n_positions=512,
                              bos_token_id=0, eos_token_id=0)
    model = architectures.LanguageModel(transformers.GPT2LMHeadModel(config))
    return model, architectures.tokens(8, 512), [(model.model.transformer, "h")]


def hf_llama():
    import transformers

    config = architectures.hf("Llama", num_hidden_layers=8, hidden_size=64, intermediate_size=128,
                              num_attention_heads=4, num_key_value_heads=2, vocab_size=128)
    model = architectures.LanguageModel(transformers.LlamaForCausalLM(config)).bfloat16()
    return model, architectures.tokens(8, 512), [(model.model.model, "layers")]


MODELS = {
    **judge.MODELS,
    "hf_gpt2": hf_gpt2,
    "hf_llama": hf_llama,
    # Without dropout a CPU's attention lays out its result as the code around it wants it, a GPU's not.
    "encoder_still": lambda: judge.encoder(dropout=0.0),
    **view_models.MODELS,
    # Deep and narrow, with many tokens: what the checkpoints hold is most of the peak.
    "gpt_held": lambda: judge.gpt(layers=48, width=32, length=1024, batch=16),
}


class ModelParallel:
    """What DeepSpeed asks of Megatron's mpu."""

    def get_model_parallel_rank(self):
        return torch.distributed.get_rank()

    def get_model_parallel_world_size(self):
        return torch.distributed.get_world_size()

    def get_model_parallel_group(self):
        return torch.distributed.group.WORLD

    def get_data_parallel_rank(self):
        return 0


def start_deepspeed():
    """Alone, or as the rank that torchrun made of this process; NCCL is the phantom's."""
    if "RANK" in os.environ:
        torch.distributed.init_process_group("nccl")
    else:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29500", RANK="0", LOCAL_RANK="0",
                          WORLD_SIZE="1")
        torch.distributed.init_process_group(
            "nccl", store=torch.distributed.HashStore(), rank=0, world_size=1)
    import deepspeed

    deepspeed.init_distributed(dist_backend="nccl", auto_mpi_discovery=False)
    from deepspeed.runtime.activation_checkpointing import checkpointing

    return checkpointing


class DeepSpeedCheckpointed(judge.Checkpointed):
    checkpointing = None

    def forward(self, x, *args, **kwargs):
        passed, captured = judge.passed_and_captured(x, args)
        return self.checkpointing.checkpoint(
            lambda *given: self.run(*given, *captured, **kwargs), *passed)


class Group(torch.nn.Module):
    """Blocks one after the other, to be exported together."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, x, *args):
        for block in self.blocks:
            x = block(x, *args)
        return x


def arguments_of(blocks, model, inputs):
    """What each block is called with in a plain step."""
    seen = {}
    hooks = [block.register_forward_pre_hook(lambda module, given: seen.update({module: given}))
             for block in blocks]
    model(*inputs)
    for hook in hooks:
        hook.remove()
    return seen


class Checkpoints:
    """Puts the blocks of a model behind checkpoints of one framework, and takes them out again."""

    def __init__(self):
        self.deepspeed = None

    def wrapper(self, job):
        setting = job["setting"]
        if job["framework"] == "torch":
            return lambda blocks: judge.Checkpointed(blocks, setting["method"] == "reentrant")
        if self.deepspeed is None:
            self.deepspeed = start_deepspeed()
        assert torch.distributed.get_world_size() == setting["model_parallel_size"]
        self.deepspeed.configure(
            ModelParallel(),
            partition_activations=setting["partition_activations"],
            contiguous_checkpointing=setting["contiguous_memory_optimization"],
            num_checkpoints=len(job["segments"]),
            checkpoint_in_cpu=setting["cpu_checkpointing"] != "off",
            synchronize=False,
            profile=False,
        )
        self.deepspeed.reset()
        DeepSpeedCheckpointed.checkpointing = self.deepspeed
        return lambda blocks: DeepSpeedCheckpointed(blocks, True)

    def put(self, model, inputs, runs, job):
        if not job["segments"]:
            return []
        make = self.wrapper(job)
        if job.get("as_exported"):
            blocks = [block for parent, name in runs for block in getattr(parent, name)]
            given = arguments_of(blocks, model, inputs)
            checkpoint = make
            make = lambda group: checkpoint(
                [torch.export.export(Group(group), given[group[0]]).module()])
        undo = []
        sizes = judge.group_sizes(runs, job["segments"])
        for (parent, name), groups in zip(runs, sizes):
            original = getattr(parent, name)
            blocks = list(original)
            replaced, begin = [], 0
            for size in groups:
                replaced.append(make(blocks[begin : begin + size]))
                replaced += [judge.Skipped() for _ in range(size - 1)]
                begin += size
            undo.append((parent, name, original))
            sequence = torch.nn.Sequential(*replaced)
            keeps = type(original) is torch.nn.Sequential
            setattr(parent, name, sequence if keeps else torch.nn.ModuleList(replaced))
        return undo


def step(model, inputs):
    loss = model(*inputs)
    loss.backward()


def forget_earlier_settings(model, checkpoints):
    """What a fresh process would not have: other settings' gradients and buffers, other threads'
    workspaces."""
    model.zero_grad(set_to_none=True)
    if checkpoints.deepspeed is not None:
        checkpoints.deepspeed.reset()
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()


def peaks(model, inputs):
    """Of the third step. Each one waits for its end, so copies lag by no more than a step."""
    for _ in range(3):
        model.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        step(model, inputs)
    return {"allocated": torch.cuda.max_memory_allocated(),
            "in_use": torch.cuda.memory_stats()["active_bytes.all.peak"],
            "reserved": torch.cuda.max_memory_reserved()}


def main():
    warnings.filterwarnings("ignore")
    jobs = json.load(open(sys.argv[1]))
    estimator_models.answer_as_on_a_card()
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    checkpoints = Checkpoints()
    results = {}
    for name, settings in jobs.items():
        model, inputs, runs = MODELS[name]()
        model = model.cuda().train()
        inputs = tuple(t.cuda() for t in inputs)
        results[name] = []
        for job in settings:
            undo = checkpoints.put(model, inputs, runs, job)
            forget_earlier_settings(model, checkpoints)
            try:
                results[name].append(peaks(model, inputs))
            except Exception as error:  # noqa: BLE001 - named in the table
                results[name].append(f"{type(error).__name__}: {error}"[:300])
            for parent, attribute, original in undo:
                setattr(parent, attribute, original)
        del model, inputs, runs, undo
    rank = os.environ.get("RANK", "0")
    path = sys.argv[2] if os.environ.get("WORLD_SIZE", "1") == "1" else f"{sys.argv[2]}.{rank}"
    json.dump(results, open(path, "w"))


if __name__ == "__main__":
    main()
