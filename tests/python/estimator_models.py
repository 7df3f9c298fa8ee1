"""Models of real size, as people train them, for comparing estimators on a phantom GPU: made on the
device that is the default, so that on the phantom, or on the meta device, their values cost nothing."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from architectures import Classifier, LanguageModel, UNet, hf

def tokens(batch, length, vocabulary):
    ids = torch.zeros(batch, length, dtype=torch.long)
    return ids, torch.zeros_like(ids) + vocabulary - 1

def images(batch, size):
    return torch.zeros(batch, 3, size, size), torch.zeros(batch, dtype=torch.long)

def gpt2():
    import transformers

    model = transformers.GPT2LMHeadModel(hf("GPT2"))
    return LanguageModel(model), tokens(8, 1024, 50257)

def llama():
    import transformers

    config = hf("Llama", num_hidden_layers=16, hidden_size=2048, intermediate_size=8192,
                num_attention_heads=32, num_key_value_heads=8, vocab_size=128256)
    return LanguageModel(transformers.LlamaForCausalLM(config)).bfloat16(), tokens(2, 2048, 128256)

class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        import transformers

        self.model = transformers.BertForMaskedLM(hf("Bert"))

    def forward(self, input_ids, labels):
        return self.model(input_ids=input_ids, labels=labels).loss

def bert():
    return Bert(), tokens(16, 512, 30522)

def vit():
    import timm

    return Classifier(timm.create_model("vit_base_patch16_224", pretrained=False)), images(64, 224)

def resnet50():
    import torchvision

    return Classifier(torchvision.models.resnet50(weights=None)), images(64, 224)

def unet():
    return UNet((64, 128, 256, 512)), (torch.zeros(8, 3, 256, 256), torch.zeros(8, 256, 256, dtype=torch.long))

MODELS = {"gpt2": gpt2, "llama": llama, "bert": bert, "vit": vit, "resnet50": resnet50, "unet": unet}

def answer_as_on_a_card():
    """Transformers reads from the device whether position ids start anew inside a sequence, and then
    builds a mask. Here they do not; on a phantom, which has no values, the answer would be yes."""
    import transformers.masking_utils

    transformers.masking_utils.find_packed_sequence_indices = lambda *_: None

def make(name, device):
    answer_as_on_a_card()
    with torch.device(device):
        model, inputs = MODELS[name]()
    return model.train(), inputs

class Checkpointed(nn.Module):
    """A block behind a checkpoint."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.block, name)

    def forward(self, *args, **kwargs):
        return checkpoint(self.block, *args, use_reentrant=False, **kwargs)

def checkpoint_blocks(model, segments):
    """Puts every block of the segments, each of one block, behind a checkpoint."""
    for [path] in segments:
        parent, _, name = path.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, name, Checkpointed(getattr(owner, name)))
