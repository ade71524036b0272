"""Trains a backbone on a FER2013 file from random weights and saves it as a legacy `*_notop.h5` file.

So a start that has learned something can be had where the published weights cannot.
"""

import argparse

import keras
import numpy as np
from keras import layers

from faces import CLASSES, read, training_batches
from finetune_keras import train_epoch
from keras_weights import save_legacy
from notebook_model import APPLICATIONS


def main():
    """Trains with plain Adam and a small head, so that the start is not the notebook's own training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", required=True, choices=list(APPLICATIONS))
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--bn-momentum", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="HDF5 file to write")
    options = parser.parse_args()

    keras.utils.set_random_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    images, labels = read(options.data, "Training")
    shape = (options.size, options.size, 3)
    base = APPLICATIONS[options.backbone](weights=None, include_top=False, input_shape=shape)
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = options.bn_momentum
    x = layers.GlobalAveragePooling2D()(base.output)
    model = keras.Model(base.input, layers.Dense(CLASSES, activation="softmax")(x))
    model.compile(
        keras.optimizers.Adam(options.learning_rate),
        "categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    for epoch in range(1, options.epochs + 1):
        batches = training_batches(images, labels, options.size, options.batch, rng)
        loss, accuracy = train_epoch(model, batches)
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.4f}", flush=True)
    save_legacy(base, options.out)


if __name__ == "__main__":
    main()
