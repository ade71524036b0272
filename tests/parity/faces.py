"""FER2013's CSV file as batches for Keras, augmented as in the notebook. Needs Keras' legacy code alone."""

import csv

import numpy as np

from augmentation import augment, resize

SIDE, CLASSES = 48, 7


def read(path, usage):
    """Gray images u8 `[N, 48, 48]` and classes of the rows of one usage, in order."""
    images, labels = [], []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if row["Usage"] == usage:
                images.append(np.array(row["pixels"].split(), np.uint8).reshape(SIDE, SIDE))
                labels.append(int(row["emotion"]))
    if not images:
        raise ValueError(f"{path} has no rows of usage {usage}")
    return np.stack(images), np.array(labels)


def as_input(gray):
    """Gray `[N, S, S]` of 0 to 255 to `[N, S, S, 3]` in [0, 1]."""
    scaled = np.asarray(gray, np.float32) * np.float32(1 / 255)
    return np.repeat(scaled[..., None], 3, axis=-1)


def plain(images, size):
    """Validation images."""
    return as_input(np.stack([resize(image, size) for image in images]))


def training_batches(images, labels, size, batch, rng, augmented=True):
    """One epoch: `n // batch + 1` batches of a fresh order. The last batch is short, or it is the first of
    another order if it would be empty."""
    order = rng.permutation(len(images))
    steps = len(images) // batch + 1
    if len(images) % batch == 0:
        order = np.concatenate([order, rng.permutation(len(images))[:batch]])
    for step in range(steps):
        chosen = order[step * batch : (step + 1) * batch]
        gray = [resize(images[i], size) for i in chosen]
        if augmented:
            gray = [augment(image, draw(rng)) for image in gray]
        yield as_input(np.stack(gray)), np.eye(CLASSES, dtype=np.float32)[labels[chosen]]


def draw(rng):
    """Shifts and zooms as in the notebook, and the flip."""
    shifts, zooms = rng.uniform(-0.1, 0.1, 2), rng.uniform(0.9, 1.1, 2)
    return (*shifts, *zooms, rng.random() < 0.5)
