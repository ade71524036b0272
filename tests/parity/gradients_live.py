"""Gradients of a training step's loss by PyTorch in float64:
`gradients_live.py TIMM_NAME BACKBONE HEAD BATCH OUT`.

BACKBONE has the weights in timm's names, HEAD those of the notebook's head in Quartet's (dense kernels are
`[in, out]`), BATCH `images` and `labels`; OUT gets the gradients under the same names, and the `loss`.
"""

import sys

import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from check_export import CLASSIFIERS

EPSILON = 1e-3


def normalise(x, head, name):
    """Batch normalisation by the batch."""
    gamma, beta = head[f"{name}.gamma"], head[f"{name}.beta"]
    return functional.batch_norm(x, None, None, gamma, beta, True, 0.0, EPSILON)


def classify(x, head):
    """The notebook's head without dropout."""
    x = normalise(x, head, "head.norm").mean((2, 3))
    for layer in ("head.hidden1", "head.hidden2"):
        x = functional.relu(x @ head[f"{layer}.dense.weight"] + head[f"{layer}.dense.bias"])
        x = normalise(x, head, f"{layer}.norm")
    return x @ head["head.logits.weight"] + head["head.logits.bias"]


def main(name, backbone, head, batch, out):
    """Writes the gradients."""
    torch.set_num_threads(2)
    model = timm.create_model(name, pretrained=False).double().train()
    _, unexpected = model.load_state_dict(load_file(backbone), strict=False)
    assert not unexpected, unexpected
    trunk = {key: p for key, p in model.named_parameters() if not key.startswith(CLASSIFIERS)}
    head = {key: value.double() for key, value in load_file(head).items()}
    trained = {key: value.requires_grad_() for key, value in head.items() if "running_" not in key}
    batch = load_file(batch)
    logits = classify(model.forward_features(batch["images"].double()), head)
    loss = functional.cross_entropy(logits, batch["labels"])
    leaves = {**trunk, **trained}
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
    save_file({"loss": loss.detach(), **{key: g.contiguous() for key, g in gradients.items()}}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
