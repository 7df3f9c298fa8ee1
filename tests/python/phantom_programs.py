"""PyTorch programs as their authors wrote them, which know of no phantom; each begins with HEADER."""

HEADER = """
import os, sys, torch
import torch.nn.functional as F
def tell():
    torch.cuda.synchronize()
    print("peaks", torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), flush=True)
"""

PROGRAMS = {
    "resnet50": """
import torchvision
model = torchvision.models.resnet50().cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(2):
    loss = F.cross_entropy(model(torch.randn(4, 3, 224, 224).cuda()), torch.zeros(4).long().cuda())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
tell()
""",
    "transformer": """
layer = torch.nn.TransformerEncoderLayer(64, 4, dropout=0.1).cuda()
optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
with torch.autocast("cuda", torch.bfloat16):
    loss = layer(torch.randn(10, 2, 64, device="cuda")).float().sum()
loss.backward()
optimizer.step()
tell()
""",
    "gpt2_trainer": """
import tempfile
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return {"input_ids": torch.full((32,), i), "labels": torch.full((32,), i)}
model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=256, n_positions=64))
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(output_dir=folder, per_device_train_batch_size=2, max_steps=2,
                                  bf16=True, report_to=[], gradient_checkpointing=True)
    Trainer(model=model, args=arguments, train_dataset=Data()).train()
tell()
""",
    "deepspeed": """
import deepspeed
deepspeed.init_distributed()
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
for stage in map(int, sys.argv[1:]):
    model = torch.nn.Sequential(*[torch.nn.Linear(128, 128) for _ in range(4)])
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config={
        "train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": True},
        "zero_optimization": {"stage": stage},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}})
    for _ in range(2):
        x = torch.randn(2, 128, device=engine.device, dtype=torch.bfloat16)
        engine.backward(engine(x).float().sum())
        engine.step()
    print("stage", stage, "stepped", flush=True)
tell()
""",
    "accelerate": """
from accelerate import Accelerator
accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2)
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))
data = torch.utils.data.DataLoader(torch.randn(16, 64), batch_size=4)
model, optimizer, data = accelerator.prepare(model, torch.optim.AdamW(model.parameters()), data)
for x in data:
    with accelerator.accumulate(model):
        accelerator.backward(model(x).float().square().mean())
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
tell()
""",
    # A model made on the meta device, its blocks checkpointed and sharded one by one.
    "torchtitan": """
import torch.distributed as dist
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
nn = torch.nn
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.qkv = nn.RMSNorm(64), nn.Linear(64, 192, bias=False)
        self.up, self.down = nn.Linear(64, 256, bias=False), nn.Linear(256, 64, bias=False)
    def forward(self, x):
        q, k, v = (t.unflatten(-1, (4, 16)).transpose(1, 2)
                   for t in self.qkv(self.norm(x)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + mixed.transpose(1, 2).flatten(2)
        return x + self.down(F.silu(self.up(x)))
rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
dist.init_process_group("nccl")
mesh = dist.init_device_mesh("cuda", (dist.get_world_size(),))
with torch.device("meta"):
    blocks = [checkpoint_wrapper(Block()) for _ in range(3)]
    model = nn.Sequential(nn.Embedding(128, 64), *blocks, nn.Linear(64, 128, bias=False))
policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
for block in blocks:
    fully_shard(block, mesh=mesh, mp_policy=policy)
fully_shard(model, mesh=mesh, mp_policy=policy)
model.to_empty(device="cuda")
for module in model.modules():
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
for _ in range(2):
    tokens = torch.zeros(2, 32, dtype=torch.long, device="cuda")
    F.cross_entropy(model(tokens).flatten(0, 1).float(), tokens.flatten()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    optimizer.step()
    optimizer.zero_grad()
tell()
dist.destroy_process_group()
""",
    "triton": """
import triton
import triton.language as tl
@triton.jit
def double(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, 2 * tl.load(x + i, mask=i < n), mask=i < n)
x = torch.randn(32, 64, device="cuda")
out = torch.empty_like(x)
double[(2,)](x, out, x.numel(), BLOCK=1024)
tell()
""",
    "compiled": """
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64)).cuda()
compiled = torch.compile(model)
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(2):
    compiled(torch.randn(32, 64, device="cuda")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
tell()
""",
    "workers": """
data = torch.utils.data.DataLoader(torch.ones(64, 16), batch_size=8, num_workers=2, pin_memory=True)
layer = torch.nn.Linear(16, 16).cuda()
for x in data:
    layer(x.cuda(non_blocking=True)).sum().backward()
tell()
""",
    "fork": """
x = torch.ones(1000, device="cuda")
child = os.fork()
if child == 0:
    try:
        x + 1
    except RuntimeError as error:
        print(str(error).splitlines()[0], flush=True)
        os._exit(3)
    os._exit(0)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
tell()
""",
    "crash": """
import ctypes
x = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
y = torch.empty(3 << 20, dtype=torch.uint8, device="cuda")
ctypes.string_at(0)
""",
    "early": """
sys.exit("there is no data")
""",
    "out_of_memory": """
blocks = []
try:
    while True:
        blocks.append(torch.empty(1 << 34, dtype=torch.uint8, device="cuda"))
except torch.OutOfMemoryError as error:
    del error
tell()
""",
    "values": """
x = torch.tensor(list(range(100))).cuda()
assert x.sum().item() == 0 and x.tolist() == list(range(100))
assert torch.ones(8, device="cuda").dot(torch.ones(8, device="cuda")).item() == 0
address = x.data_ptr()
del x
y = torch.empty(100, dtype=torch.long, device="cuda")
assert y.data_ptr() == address and y.tolist() == [0] * 100
pinned = torch.ones(1 << 20).pin_memory()
assert pinned.is_pinned()
pinned.copy_(pinned.cuda(), non_blocking=True)
assert pinned.sum().item() == 0
tell()
""",
    # What checks of a healthy step ask.
    "conditions": """
x = torch.randn(8, 8, device="cuda")
assert torch.isfinite(x).all() and torch.isfinite(x.sum())
assert not torch.isnan(x).any() and not (x > 3).any()
torch.distributions.Normal(x, torch.ones_like(x)).rsample()
del x
assert not torch.empty(1, dtype=torch.bool, device="cuda").item()
tell()
""",
    "lstm": """
torch.nn.LSTM(16, 32).cuda()(torch.randn(5, 3, 16, device="cuda"))
""",
    "graph": """
x = torch.ones(1024, device="cuda")
try:
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        y = x + 1
except RuntimeError as error:
    print(str(error).splitlines()[0])
    sys.exit(3)
""",
    # Experts that get only the tokens routed to them, and a shape that is read.
    "routed": """
layer = torch.nn.Linear(8, 8).cuda()
x = torch.randn(16, 8, device="cuda")
layer(x[x[:, 0] > 0]).sum().backward()
torch.zeros(int(torch.ones(4, dtype=torch.long, device="cuda").cumsum(0)[-1]), device="cuda")
tell()
""",
    "endless": """
x = torch.empty(1 << 20, dtype=torch.uint8, device="cuda")
print("begun", flush=True)
import time
time.sleep(300)
""",
    "sudden_end": """
x = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
y = torch.empty(1 << 20, dtype=torch.uint8, device="cuda")
os._exit(7)
""",
}
