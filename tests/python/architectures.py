"""Small configurations of real architectures, each with its loss: built from config, nothing
downloaded, a step of well under half a second."""

import contextlib

import torch
import torch.nn.functional as F
from torch import nn


class Classifier(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, labels):
        output = self.model(images)
        return F.cross_entropy(output["out"] if isinstance(output, dict) else output, labels)


class LanguageModel(nn.Module):
    """A Transformers model that computes its own loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, labels):
        return self.model(input_ids=input_ids, labels=labels, use_cache=False).loss


def tokens(batch=2, length=32, vocabulary=128):
    return torch.randint(0, vocabulary, (batch, length)), torch.randint(0, vocabulary, (batch, length))


def images(batch=2, size=64, classes=10):
    return torch.randn(batch, 3, size, size), torch.randint(0, classes, (batch,))


def hf(name, **config):
    import transformers

    configuration = getattr(transformers, f"{name}Config")(**config)
    return configuration


def gpt2():
    import transformers

    config = hf("GPT2", n_layer=3, n_embd=64, n_head=4, vocab_size=128, n_positions=64,
                bos_token_id=0, eos_token_id=0)
    return LanguageModel(transformers.GPT2LMHeadModel(config)), tokens()


def llama():
    import transformers

    config = hf("Llama", num_hidden_layers=3, hidden_size=64, intermediate_size=128,
                num_attention_heads=4, num_key_value_heads=2, vocab_size=128)
    return LanguageModel(transformers.LlamaForCausalLM(config)), tokens()


def qwen3():
    import transformers

    config = hf("Qwen3", num_hidden_layers=2, hidden_size=64, intermediate_size=128, head_dim=16,
                num_attention_heads=4, num_key_value_heads=2, vocab_size=128)
    return LanguageModel(transformers.Qwen3ForCausalLM(config)), tokens()


def mixtral():
    import transformers

    config = hf("Mixtral", num_hidden_layers=2, hidden_size=64, intermediate_size=64,
                num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, vocab_size=128,
                experts_implementation="batched_mm")
    return LanguageModel(transformers.MixtralForCausalLM(config)), tokens()


def bert():
    import transformers

    config = hf("Bert", num_hidden_layers=3, hidden_size=64, intermediate_size=128,
                num_attention_heads=4, vocab_size=128, max_position_embeddings=64)

    class Bert(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = transformers.BertForMaskedLM(config)

        def forward(self, input_ids, labels):
            return self.model(input_ids=input_ids, labels=labels).loss

    return Bert(), tokens()


def t5():
    import transformers

    config = hf("T5", num_layers=2, num_decoder_layers=2, d_model=64, d_ff=128, d_kv=16,
                num_heads=4, vocab_size=128, decoder_start_token_id=0)
    return LanguageModel(transformers.T5ForConditionalGeneration(config)), tokens()


def whisper():
    import transformers

    config = hf("Whisper", encoder_layers=2, decoder_layers=2, d_model=64, encoder_ffn_dim=128,
                decoder_ffn_dim=128, encoder_attention_heads=4, decoder_attention_heads=4,
                vocab_size=128, num_mel_bins=16, max_source_positions=32, max_target_positions=32,
                decoder_start_token_id=0, pad_token_id=0, bos_token_id=0, eos_token_id=0)

    class Whisper(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = transformers.WhisperForConditionalGeneration(config)

        def forward(self, features, labels):
            return self.model(input_features=features, labels=labels, use_cache=False).loss

    return Whisper(), (torch.randn(2, 16, 64), torch.randint(0, 128, (2, 16)))


def albert():
    import transformers

    config = hf("Albert", num_hidden_layers=3, hidden_size=64, intermediate_size=128,
                embedding_size=32, num_attention_heads=4, vocab_size=128,
                max_position_embeddings=64)

    class Albert(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = transformers.AlbertForMaskedLM(config)

        def forward(self, input_ids, labels):
            return self.model(input_ids=input_ids, labels=labels).loss

    return Albert(), tokens()


def timm_model(name, size=64, **options):
    def make():
        import timm

        return Classifier(timm.create_model(name, pretrained=False, num_classes=10, **options)), images(size=size)

    return make


def torchvision_model(name, size=64, **options):
    def make():
        import torchvision

        return Classifier(getattr(torchvision.models, name)(weights=None, num_classes=10, **options)), images(size=size)

    return make


def fcn():
    import torchvision

    model = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=4)
    return Classifier(model), (torch.randn(2, 3, 32, 32), torch.randint(0, 4, (2, 32, 32)))


def encoder_layers():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
            self.stem = nn.Linear(16, 64)
            self.head = nn.Linear(64, 10)

        def forward(self, x, labels):
            return F.cross_entropy(self.head(self.encoder(self.stem(x)).mean(1)), labels)

    return Encoder(), (torch.randn(2, 24, 16), torch.randint(0, 10, (2,)))


def lstm():
    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(64, 32)
            self.lstm = nn.LSTM(32, 48, num_layers=2, batch_first=True, dropout=0.1)
            self.head = nn.Linear(48, 64)

        def forward(self, x, labels):
            y, _ = self.lstm(self.embedding(x))
            return F.cross_entropy(self.head(y).flatten(0, 1), labels.flatten())

    return Lstm(), tokens(vocabulary=64, length=12)


class DoubleConv(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.layers(x)


class UNet(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.down = nn.ModuleList([DoubleConv(a, b) for a, b in zip((3, *widths), widths)])
        wide = widths[::-1]
        self.up = nn.ModuleList([DoubleConv(a + b, b) for a, b in zip(wide, wide[1:])])
        self.head = nn.Conv2d(widths[0], 4, 1)

    def forward(self, x, labels):
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i > 0 else x)
            skips.append(x)
        for block, skip in zip(self.up, reversed(skips[:-1])):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return F.cross_entropy(self.head(x), labels)


def unet():
    return UNet((8, 16, 32)), (torch.randn(2, 3, 32, 32), torch.randint(0, 4, (2, 32, 32)))


class Residual(nn.Module):
    def __init__(self, width, wrap=lambda layer: layer):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = wrap(nn.Linear(width, 2 * width))
        self.second = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.second(F.silu(self.first(self.norm(x))))


class Mlp(nn.Module):
    """Residual blocks between two linear layers, with hooks for variants."""

    def __init__(self, width=48, blocks=4, region=contextlib.nullcontext, wrap=lambda layer: layer):
        super().__init__()
        self.stem = nn.Linear(16, width)
        self.blocks = nn.ModuleList([Residual(width, wrap) for _ in range(blocks)])
        self.head = nn.Linear(width, 10)
        self.region = region
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)
        self.bias = torch.tensor([1.0])  # no buffer: the export lifts it as a constant

    def forward(self, x, labels):
        with self.region():
            x = self.stem(x) * self.scale + self.bias * 2
            for block in self.blocks:
                x = block(x)
            x = self.head(x)
        return F.cross_entropy(x.float(), labels)


def mlp_inputs(batch=32):
    return torch.randn(batch, 16), torch.randint(0, 10, (batch,))


def bfloat16():
    model = Mlp().to(torch.bfloat16)
    model.scale = model.scale.to(torch.bfloat16)
    model.bias = torch.tensor([1.0], dtype=torch.bfloat16)
    x, labels = mlp_inputs()
    return model, (x.to(torch.bfloat16), labels)


def autocast():
    return Mlp(region=lambda: torch.autocast("cpu", torch.bfloat16)), mlp_inputs()


def spectral_norm():
    return Mlp(wrap=nn.utils.parametrizations.spectral_norm), mlp_inputs()


def frozen():
    model = Mlp()
    for name, parameter in model.named_parameters():
        if "second" in name or "stem" in name:
            parameter.requires_grad_(name.endswith("bias"))
    return model, mlp_inputs()


def tied():
    model = Mlp()
    for block in model.blocks[1:]:
        block.second.weight = model.blocks[0].second.weight
    return model, mlp_inputs()


ARCHITECTURES = {
    "gpt2": gpt2,
    "llama": llama,
    "qwen3": qwen3,
    "mixtral": mixtral,
    "bert": bert,
    "t5": t5,
    "whisper": whisper,
    "albert": albert,
    "timm_vit": timm_model("vit_tiny_patch16_224", depth=3, img_size=64),
    "timm_resnet": timm_model("resnet26", size=48),
    "timm_convnext": timm_model("convnext_atto", depths=(1, 1, 2, 1), dims=(16, 24, 32, 48)),
    "timm_efficientnet": timm_model("efficientnet_lite0", size=48),
    "timm_swin": timm_model("swin_tiny_patch4_window7_224", size=56, img_size=56, embed_dim=24, depths=(2, 2), num_heads=(2, 4)),
    "timm_densenet": timm_model("densenet121", block_config=(2, 2, 2), growth_rate=8),
    "mobilenet_v3": torchvision_model("mobilenet_v3_small"),
    "fcn": fcn,
    "encoder_layers": encoder_layers,
    "lstm": lstm,
    "unet": unet,
    "bfloat16": bfloat16,
    "autocast": autocast,
    "spectral_norm": spectral_norm,
    "frozen": frozen,
    "tied": tied,
    "strict": Mlp,
    "dynamic": Mlp,
}


def export(name):
    """The exported program of an architecture, in training mode."""
    torch.manual_seed(0)
    made = ARCHITECTURES[name]()
    model, inputs = made if isinstance(made, tuple) else (made, mlp_inputs())
    model.train()
    options = {}
    if name == "strict":
        options["strict"] = True
    if name == "dynamic":
        batch = torch.export.Dim("batch", min=2, max=64)
        options["dynamic_shapes"] = {"x": {0: batch}, "labels": {0: batch}}
    return torch.export.export(model, inputs, **options), inputs
