"""Ten training steps of the notebook's model on given batches, in one floating-point width a process.

The learning rate is not the notebook's 5e-4. Adam's first steps move each weight by about the learning rate
whatever the size of its gradient, and a network with random weights amplifies that. At 5e-4 Keras' own
float32 and float64 runs part after the first step (losses of 2.2 and 2.9 with InceptionV3), and two float64
computations of the same after the sixth; at 1e-6 float32 stays within some 1e-3 and float64 within 1e-11 for
all ten.
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import load_file

from common import TRAINED, save_json, save_tensors, smooth_images
from keras_weights import save_legacy
from notebook_model import build, compile_model, head_tensors

SIZE, BATCH, STEPS, CLASSES = 75, 8, 10, 7
LEARNING_RATE = 1e-6


def start_weights(model, rng):
    """A fresh start in float32: Keras' own initial ranges (He for the convolutions, so that VGG16's features
    are not nearly 0), BatchNorm near its defaults."""
    values = []
    for layer in model.layers:
        for weight in layer.weights:
            shape = weight.shape
            fan_in, fan_out = np.prod(shape[:-1]), shape[-1]
            if weight.name == "kernel" and len(shape) == 4:
                value = rng.normal(0, np.sqrt(2 / fan_in), shape)
            elif weight.name == "kernel":
                limit = np.sqrt(6 / (fan_in + fan_out))
                value = rng.uniform(-limit, limit, shape)
            elif weight.name == "gamma":
                value = rng.uniform(0.9, 1.1, shape)
            elif weight.name in ("beta", "bias"):
                value = rng.normal(0, 0.05, shape)
            else:
                value = np.full(shape, 1.0 if weight.name == "moving_variance" else 0.0)
            values.append((weight, value.astype(np.float32)))
    return values


def batches(rng):
    """Images `[STEPS, BATCH, 3, SIZE, SIZE]` in [0, 1], and classes."""
    images = np.stack([smooth_images(rng, BATCH, SIZE) for _ in range(STEPS)])
    labels = rng.integers(0, CLASSES, (STEPS, BATCH))
    return {"images": images, "labels": labels.astype(np.int64)}


def run(out, backbone, width):
    """Trains; writes start, end and losses. Both widths start from the same float32 numbers."""
    keras.config.set_floatx(f"float{width}")
    folder = Path(out) / "training" / backbone
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(600 + TRAINED.index(backbone))
    base, model = build(backbone, SIZE, dropout=0.0, classes=CLASSES)
    for weight, value in start_weights(model, rng):
        weight.assign(value.astype(f"float{width}"))
    given = batches(rng)
    if width == 32:
        save_legacy(base, folder / "start.h5")
        save_tensors(folder / "start_head.safetensors", head_tensors(model))
        save_tensors(folder / "batches.safetensors", given)
    rate = compile_model(model, LEARNING_RATE)
    losses, rates = [], []
    for step, (images, labels) in enumerate(zip(given["images"], given["labels"])):
        rates.append(float(np.asarray(rate(step))))
        x = images.transpose(0, 2, 3, 1).astype(f"float{width}")
        y = np.eye(CLASSES, dtype=f"float{width}")[labels]
        losses.append(float(model.train_on_batch(x, y, return_dict=True)["loss"]))
        model.reset_metrics()
    save_legacy(base, folder / f"end{width}.h5")
    save_tensors(folder / f"end{width}_head.safetensors", head_tensors(model))
    save_json(folder / f"steps{width}.json", {"losses": losses, "learning_rates": rates})


def join(out):
    """One `steps.json` of both widths."""
    for backbone in TRAINED:
        folder = Path(out) / "training" / backbone
        steps = {}
        for width in (32, 64):
            part = folder / f"steps{width}.json"
            steps[f"float{width}"] = json.loads(part.read_text())
            part.unlink()
        save_json(folder / "steps.json", steps)
        end = load_file(folder / "end64_head.safetensors")
        assert all(value.dtype == np.float64 for value in end.values())


if __name__ == "__main__":
    if sys.argv[2:] == ["join"]:
        join(sys.argv[1])
    else:
        started = time.monotonic()
        run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        print(f"  {sys.argv[2]} float{sys.argv[3]}: {time.monotonic() - started:.0f} s")
