"""Training steps of PyTorch: Quartet's backbone and head, forward, backward and Adam on one fixed batch."""

import timm
import torch
import torchvision
from torch import nn

from common import CLASSES, EPSILON, HIDDEN, LEARNING_RATE, arguments, measure


def keras_resnet50():
    """Today's ResNet50 of Keras: the stride on the first convolution of a stage, and biases."""
    net = torchvision.models.resnet50(weights=None)

    def biased(conv, stride):
        return nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, stride, conv.padding)

    net.conv1 = biased(net.conv1, net.conv1.stride)
    for layer in [net.layer1, net.layer2, net.layer3, net.layer4]:
        for block in layer:
            stride = block.conv2.stride
            block.conv1, block.conv2 = biased(block.conv1, stride), biased(block.conv2, 1)
            block.conv3 = biased(block.conv3, 1)
            if block.downsample is not None:
                block.downsample[0] = biased(block.downsample[0], stride)
    return net


def backbone(name):
    """The backbone up to its feature map, and its channels."""
    if name == "vgg16":
        return torchvision.models.vgg16(weights=None).features, 512
    if name == "resnet50":
        return nn.Sequential(*list(keras_resnet50().children())[:-2]), 2048
    if name == "inception_v3":
        options = {"weights": None, "aux_logits": False, "transform_input": False, "init_weights": False}
        net = torchvision.models.inception_v3(**options)
        heads = ("avgpool", "dropout", "fc")
        return nn.Sequential(*[part for key, part in net.named_children() if key not in heads]), 2048
    net = timm.create_model("inception_resnet_v2", pretrained=False, num_classes=0, global_pool="")
    return net, 1536


def network(name):
    """With the notebook's head."""
    features, channels = backbone(name)
    norm = {"eps": 1e-3, "momentum": 0.01}
    return nn.Sequential(
        features,
        nn.BatchNorm2d(channels, **norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(channels, HIDDEN),
        nn.ReLU(),
        nn.BatchNorm1d(HIDDEN, **norm),
        nn.Dropout(0.5),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.BatchNorm1d(HIDDEN, **norm),
        nn.Dropout(0.5),
        nn.Linear(HIDDEN, CLASSES),
    )


def main():
    """Times the steps."""
    options = arguments(__doc__)
    torch.manual_seed(1)
    net = network(options.backbone).train()
    images = torch.rand(options.batch, 3, options.size, options.size)
    labels = torch.arange(options.batch) % CLASSES
    if options.channels_last:
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, eps=EPSILON)

    @torch.inference_mode()
    def classify():
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            logits = net(images)
        return nn.functional.cross_entropy(logits.float(), labels).item()

    def train():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            logits = net(images)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    if options.inference:
        net.eval()
    measure(options, classify if options.inference else train)


if __name__ == "__main__":
    main()
