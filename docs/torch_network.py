"""Networks that `worker export --format torch` wrote, as PyTorch modules. Needs torch, timm and safetensors.

    from torch_network import load
    network, classes = load("vgg16.safetensors")
    probabilities = network(images)          # u8: gray [batch, height, width], or [batch, height, width, 3]
"""

import json
from unittest import mock

import timm
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional

TIMM = {
    "vgg16": "vgg16",
    "resnet50": "resnet50",
    "resnet50_v1_5": "resnet50",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
}


class Hidden(nn.Module):
    """Dense with ReLU, then BatchNorm."""

    def __init__(self, dense, norm):
        super().__init__()
        self.dense = nn.Linear(*dense)
        self.norm = nn.BatchNorm1d(norm, eps=1e-3)

    def forward(self, x):
        return self.norm(functional.relu(self.dense(x)))


class Head(nn.Module):
    """BatchNorm, global mean, two hidden layers, logits; with the dropout that they were trained with."""

    def __init__(self, channels, units, classes, dropout):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=1e-3)
        self.hidden1 = Hidden((channels, units), units)
        self.hidden2 = Hidden((units, units), units)
        self.logits = nn.Linear(units, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = self.norm(x).mean((2, 3))
        x = self.hidden1(self.dropout(x))
        x = self.hidden2(self.dropout(x))
        return self.logits(self.dropout(x))


class Network(nn.Module):
    """timm's backbone and the head: from pixels to probabilities."""

    def __init__(self, config, state):
        super().__init__()
        self.size = config["image_size"]
        keras = config["variant"] != "torch"
        self.backbone = timm.create_model(TIMM[config["backbone"]], pretrained=False, num_classes=0)
        if keras and TIMM[config["backbone"]] == "resnet50":
            as_keras(self.backbone, config["variant"] == "keras_2018")
        # timm's means count their padding, those of Keras do not.
        self.leaves_padding_out = keras and config["backbone"] == "inception_v3"
        units, channels = state["head.hidden1.dense.weight"].shape
        classes = len(config["classes"])
        self.head = Head(channels, units, classes, config["dropout"])
        scaled(self, state)

    def images(self, pixels):
        """Resized with nearest neighbour and scaled, `[batch, 3, size, size]`."""
        rows, columns = (
            (2 * torch.arange(self.size) + 1) * extent // (2 * self.size) for extent in pixels.shape[1:3]
        )
        images = pixels[:, rows][:, :, columns].float() / 255
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        return images.expand(-1, 3, -1, -1)

    def logits(self, images):
        """Of images as the backbone takes them."""
        if not self.leaves_padding_out:
            return self.head(self.backbone.forward_features(images))
        with mock.patch.object(functional, "avg_pool2d", mean_without_padding):
            features = self.backbone.forward_features(images)
        return self.head(features)

    def forward(self, pixels):
        return self.logits(self.images(pixels)).softmax(1)


counted = functional.avg_pool2d


def mean_without_padding(x, *args, **options):
    """`avg_pool2d` as Keras has it."""
    return counted(x, *args, **{**options, "count_include_pad": False})


def as_keras(resnet, of_2018):
    """Keras' ResNet50: strides on the first convolution of a block, biases, other epsilons."""
    for layer in (resnet.layer2, resnet.layer3, resnet.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3 if of_2018 else 1.001e-5
    if of_2018:
        resnet.maxpool = nn.MaxPool2d(3, 2)


def scaled(network, state):
    """Gives the layers the shapes of a network of another width."""
    for name, module in network.named_modules():
        weight = state.get(f"{name}.weight")
        if isinstance(module, nn.BatchNorm2d) and weight is not None:
            module.num_features = len(weight)
            for part in ("weight", "bias", "running_mean", "running_var"):
                getattr(module, part).data = torch.zeros(len(weight))
        elif isinstance(module, nn.Conv2d) and weight is not None:
            module.out_channels, module.in_channels = weight.shape[:2]
            module.weight.data = torch.zeros(weight.shape)
            if module.bias is not None:
                module.bias.data = torch.zeros(len(weight))


def load(path):
    """The network, which is set to evaluate, and the names of its classes."""
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["network"])
        state = {name: file.get_tensor(name) for name in file.keys()}
    network = Network(config, state)
    missing, unexpected = network.load_state_dict(state, strict=False)
    # VGG16 has a part in timm that belongs to the classifier.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    missing = [name for name in missing if not name.startswith("backbone.pre_logits.")]
    if missing or unexpected:
        raise ValueError(f"{path}: missing {missing}, unexpected {unexpected}")
    return network.eval(), config["classes"]
