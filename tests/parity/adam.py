"""Keras' Adam on given gradients, in float64: each value after each update."""

import sys

import keras
import numpy as np

from common import save_tensors

UPDATES, VALUES = 60, 64
LEARNING_RATE, DECAY = 5e-4, 1e-3


def main(out):
    """Writes `adam.safetensors`: `start` [VALUES], `gradients`, `values` [UPDATES, VALUES], and the rates."""
    keras.config.set_floatx("float64")
    rng = np.random.default_rng(1000)
    start = rng.normal(0, 1, VALUES)
    # From far below epsilon to far above it: its place in the formula shows.
    sizes = 10.0 ** rng.uniform(-10, 1, VALUES)
    gradients = rng.normal(0.3, 1, (UPDATES, VALUES)) * sizes
    gradients[:, 0] = 0.0
    gradients[10:, 1] = 0.0
    # Python's numbers would pass through float32 inside.
    number = np.float64
    schedule = keras.optimizers.schedules.InverseTimeDecay
    rate = schedule(number(LEARNING_RATE), number(1), number(DECAY))
    optimizer = keras.optimizers.Adam(rate, number(0.9), number(0.999), number(1e-7))
    variable = keras.Variable(start, dtype="float64")
    optimizer.build([variable])
    values, rates = [], []
    for step, gradient in enumerate(gradients):
        rates.append(float(np.asarray(rate(step))))
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        values.append(np.array(variable))
    save_tensors(
        f"{out}/adam.safetensors",
        {
            "start": start,
            "gradients": gradients,
            "values": np.stack(values),
            "learning_rates": np.array(rates),
        },
    )


if __name__ == "__main__":
    main(sys.argv[1])
