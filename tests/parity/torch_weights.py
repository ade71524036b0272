"""Random but lifelike weights for PyTorch models: see `keras_weights.randomize`, which does the same."""

import numpy as np
import torch
from torch import nn


def _normal(rng, shape, deviation):
    return torch.from_numpy(rng.normal(0, deviation, tuple(shape)).astype(np.float32))


def _uniform(rng, shape):
    return torch.from_numpy(rng.uniform(0.5, 1.5, tuple(shape)).astype(np.float32))


def lifted(variance):
    """Variances of which none is far below the others', as no channel is nearly dead in trained weights."""
    return torch.clamp(variance, min=0.3 * float(variance.median()))


@torch.no_grad()
def randomize(model, rng, images):
    """Draws all weights: He normal kernels, BatchNorm statistics those of `images`, disturbed."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            shape = module.weight.shape
            module.weight.copy_(_normal(rng, shape, np.sqrt(2 / np.prod(shape[1:]))))
            if module.bias is not None:
                module.bias.copy_(_normal(rng, module.bias.shape, 0.1))
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.copy_(_uniform(rng, module.weight.shape))
            module.bias.copy_(_normal(rng, module.bias.shape, 0.2))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    model(torch.from_numpy(images))
    model.eval()
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        variance = lifted(norm.running_var)
        norm.running_mean += _normal(rng, variance.shape, 0.1) * variance.sqrt()
        norm.running_var.copy_(variance * _uniform(rng, variance.shape))
