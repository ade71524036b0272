"""Checks exported weights with timm:
`check_export.py WEIGHTS.safetensors TIMM_NAME SIZE EXPECTED.safetensors`.

The state dict must fit the timm model with nothing but the classifier missing, and give on `input` of
EXPECTED its `features`, to 1e-4 of the largest. `--average-pool-without-padding` computes InceptionV3 as
Keras does: timm's average pools count their padding.
"""

import argparse
import sys

import timm
import torch
from safetensors.torch import load_file
from torch.nn import functional

CLASSIFIERS = ("fc.", "head.", "pre_logits.", "classif.", "classifier.", "last_linear.")
TOLERANCE = 1e-4


def leave_padding_out():
    """For good: the process does nothing else."""
    counted = functional.avg_pool2d

    def uncounted(x, *args, **options):
        return counted(x, *args, **{**options, "count_include_pad": False})

    functional.avg_pool2d = uncounted


def load(model, weights):
    """An error message, or none."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected:
        return f"timm knows no such keys: {', '.join(unexpected)}"
    of_trunk = [name for name in missing if not name.startswith(CLASSIFIERS)]
    if of_trunk:
        return f"keys of the backbone are missing: {', '.join(of_trunk)}"
    classifier = [name for name in model.state_dict() if name.startswith(CLASSIFIERS)]
    if sorted(missing) != sorted(classifier):
        return f"the whole classifier should be missing, not: {', '.join(missing) or 'nothing'}"
    return None


@torch.no_grad()
def compare(model, size, expected):
    """An error message, or none."""
    images = expected["input"]
    if list(images.shape[1:]) != [3, size, size]:
        return f"the input is {list(images.shape)}, not of size {size}"
    found = model.forward_features(images)
    wanted = expected["features"]
    if found.shape != wanted.shape:
        return f"the features are {list(wanted.shape)}, timm's {list(found.shape)}"
    difference = ((found - wanted).abs().max() / found.abs().max()).item()
    print(f"largest difference from timm's features: {difference:.1e} of the largest")
    if not difference <= TOLERANCE:
        return f"the features differ by {difference:.1e} of the largest, {TOLERANCE} is allowed"
    return None


def main():
    """Exit status 1 and a message on stderr where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights")
    parser.add_argument("timm_name")
    parser.add_argument("size", type=int)
    parser.add_argument("expected")
    parser.add_argument("--average-pool-without-padding", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.average_pool_without_padding:
        leave_padding_out()
    model = timm.create_model(options.timm_name, pretrained=False).eval()
    try:
        error = load(model, load_file(options.weights))
    except RuntimeError as mismatch:  # shapes
        error = str(mismatch)
    error = error or compare(model, options.size, load_file(options.expected))
    if error:
        sys.exit(f"{options.weights} does not fit {options.timm_name}: {error}")


if __name__ == "__main__":
    main()
