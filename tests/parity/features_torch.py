"""Weights files as timm's repositories and torchvision's downloads have them, and their feature maps.

The classifiers' hidden layers of VGG16 are narrow here: they are not read, and 400 MB each.
"""

import sys
from contextlib import contextmanager

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from common import SIZES, Cases, relative_difference, smooth_images
from torch_weights import randomize

NARROW = 32


@contextmanager
def padding_uncounted():
    """Lets average pools leave their padding out, as TensorFlow's and so the original InceptionV3's do."""
    counted = functional.avg_pool2d

    def uncounted(x, *args, **options):
        return counted(x, *args, **{**options, "count_include_pad": False})

    functional.avg_pool2d = uncounted
    try:
        yield
    finally:
        functional.avg_pool2d = counted


@torch.no_grad()
def features(extract, rng, sizes, inception):
    """Inputs and feature maps for each size; of InceptionV3 also those without counted padding."""
    tensors = {}
    for size in sizes:
        images = smooth_images(rng, 2, size)
        tensors[f"input_{size}"] = images
        tensors[f"features_{size}"] = extract(torch.from_numpy(images)).numpy()
        if inception:
            with padding_uncounted():
                tensors[f"features_uncounted_{size}"] = extract(torch.from_numpy(images)).numpy()
    return tensors


def drawn(model, seed, size=200):
    """The model with random weights, and the generator for its inputs."""
    rng = np.random.default_rng(seed)
    randomize(model, rng, smooth_images(rng, 4, size))
    return model, rng


def add(cases, name, backbone, suffix, framework, extract, rng, sizes):
    """Lists a case whose weights file is written."""
    inception = backbone == "inception_v3"
    extra = {"average_pool_counts_padding": True} if inception else {}
    tensors = features(extract, rng, sizes, inception)
    cases.add(name, backbone, suffix, framework, tensors, **extra)


def save_hub(model, path):
    """As timm's repositories on the hub have it."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, str(path), metadata={"format": "pt"})


def timm_cases(cases):
    """safetensors of timm models, and one `.pth`."""
    made = [
        ("timm_vgg16_tv", "vgg16", "vgg16.tv_in1k", {}),
        ("timm_resnet50_tv", "resnet50", "resnet50.tv_in1k", {}),
        ("timm_inception_v3_tf", "inception_v3", "inception_v3.tf_in1k", {}),
        ("timm_inception_v3_tv_aux", "inception_v3", "inception_v3.tv_in1k", {"aux_logits": True}),
        ("timm_inception_resnet_v2_tf", "inception_resnet_v2", "inception_resnet_v2.tf_in1k", {}),
    ]
    for seed, (name, backbone, hub, options) in enumerate(made):
        model = timm.create_model(hub, pretrained=False, **options)
        if backbone == "vgg16":
            model.pre_logits.fc1 = nn.Conv2d(512, NARROW, 7)
            model.pre_logits.fc2 = nn.Conv2d(NARROW, NARROW, 1)
            model.head.fc = nn.Linear(NARROW, 1000)
        size = 299 if options.get("aux_logits") else 224
        model, rng = drawn(model, 400 + seed, size)
        save_hub(model, cases.file(name, ".safetensors"))
        model.aux_logits = (
            False  # The auxiliary head, which is saved, needs larger images than the rest.
        )
        add(cases, name, backbone, ".safetensors", "timm", model.forward_features, rng, SIZES)
        if backbone == "resnet50":
            torch.save(model.state_dict(), cases.file("timm_resnet50_pth", ".pth"))
            extract = model.forward_features
            add(cases, "timm_resnet50_pth", backbone, ".pth", "timm", extract, rng, [139])
        print(f"  {name}: {sensitivity(model, model.forward_features, rng)}")


def torchvision_cases(cases):
    """`.pth` files as `torch.save` wrote and writes them."""
    vgg = torchvision.models.vgg16(weights=None)
    vgg.classifier[0] = nn.Linear(25088, NARROW)
    vgg.classifier[3] = nn.Linear(NARROW, NARROW)
    vgg.classifier[6] = nn.Linear(NARROW, 1000)
    vgg, rng = drawn(vgg, 500, 224)
    torch.save(vgg.state_dict(), cases.file("torchvision_vgg16", ".pth"))
    add(cases, "torchvision_vgg16", "vgg16", ".pth", "torchvision", vgg.features, rng, [139])

    resnet, rng = drawn(torchvision.models.resnet50(weights=None), 501)
    trunk = nn.Sequential(*list(resnet.children())[:-2])
    path = cases.file("torchvision_resnet50_legacy", ".pth")
    torch.save(resnet.state_dict(), path, _use_new_zipfile_serialization=False)
    add(cases, "torchvision_resnet50_legacy", "resnet50", ".pth", "torchvision", trunk, rng, [139])
    wrapped = {f"module.{name}": tensor for name, tensor in resnet.state_dict().items()}
    path = cases.file("torchvision_resnet50_wrapped", ".pth")
    torch.save({"state_dict": wrapped, "epoch": 3}, path)
    add(cases, "torchvision_resnet50_wrapped", "resnet50", ".pth", "torchvision", trunk, rng, [139])

    # The optimizer's step changes these tensors, too.
    trained = {f"_orig_mod.backbone.{name}": tensor for name, tensor in resnet.state_dict().items()}
    trained["_orig_mod.classifier.weight"] = torch.zeros(7, 2048)
    optimizer = torch.optim.Adam(resnet.parameters(), lr=1e-6)
    optimizer.zero_grad()
    resnet(torch.zeros(1, 3, 64, 64)).sum().backward()
    optimizer.step()
    saved = {"epoch": 3, "optimizer_state_dict": optimizer.state_dict(), "model_state_dict": trained}
    path = cases.file("torchvision_resnet50_trained", ".pth")
    torch.save(saved, path)
    add(cases, "torchvision_resnet50_trained", "resnet50", ".pth", "torchvision", trunk, rng, [139])

    options = {"weights": None, "transform_input": False, "init_weights": False}
    inception, rng = drawn(torchvision.models.inception_v3(**options), 502, 299)
    # What is left of the network's children, in order, when the heads are taken away.
    heads = ("AuxLogits", "avgpool", "dropout", "fc")
    trunk = nn.Sequential(*[m for name, m in inception.named_children() if name not in heads])
    torch.save(inception.state_dict(), cases.file("torchvision_inception_v3", ".pth"))
    add(cases, "torchvision_inception_v3", "inception_v3", ".pth", "torchvision", trunk, rng, [139])


@torch.no_grad()
def sensitivity(model, extract, rng):
    """By how much a wrong epsilon, or padding that is not counted, would change the features."""
    images = torch.from_numpy(smooth_images(rng, 2, 200))
    right = extract(images)
    found = {}
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        epsilon = norms[0].eps
        for norm in norms:
            norm.eps = 1e-5 if epsilon == 1e-3 else 1e-3
        found["wrong epsilon"] = relative_difference(right, extract(images))
        for norm in norms:
            norm.eps = epsilon
        assert found["wrong epsilon"] > 5e-4, found
    if isinstance(model, timm.models.InceptionV3):
        with padding_uncounted():
            found["padding not counted"] = relative_difference(right, extract(images))
    return ", ".join(f"{what}: {change:.1e}" for what, change in found.items())


def main(out):
    """Writes all cases of timm and torchvision."""
    torch.set_num_threads(2)
    cases = Cases(out, "torch")
    timm_cases(cases)
    torchvision_cases(cases)
    cases.close()


if __name__ == "__main__":
    main(sys.argv[1])
