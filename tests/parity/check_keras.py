"""Checks exported weights with Keras 3: `check_keras.py BACKBONE.weights.h5 EXPECTED.safetensors`.

The notebook's model on the backbone that the file is named after must take them, and give on `images` of
EXPECTED, gray values of u8, its `probabilities`, to 1e-4.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from notebook_model import build

SIZE, TOLERANCE = 96, 1e-4


def main(path, expected):
    """Exit status 1 and a message on stderr where something is wrong."""
    expected = load_file(expected)
    gray, wanted = expected["images"], expected["probabilities"]
    name = Path(path).name.removesuffix(".weights.h5")
    _, model = build(name, SIZE, classes=wanted.shape[1])
    model.load_weights(path)
    rows, columns = ((2 * np.arange(SIZE) + 1) * n // (2 * SIZE) for n in gray.shape[1:])
    images = gray[:, rows][:, :, columns].astype(np.float32)[..., None] / 255
    found = np.asarray(model(np.repeat(images, 3, axis=-1), training=False))
    difference = float(np.abs(found - wanted).max())
    print(f"largest difference of a probability: {difference:.1e}")
    if not difference <= TOLERANCE:
        sys.exit(f"{path}: probabilities differ by {difference:.1e}, {TOLERANCE} is allowed")


if __name__ == "__main__":
    main(*sys.argv[1:])
