"""Trains the notebook's model in Keras on a FER2013 file and writes what each epoch came to, as JSON."""

import argparse
import time

import h5py
import keras
import numpy as np
from keras.src.legacy.saving.legacy_h5_format import load_weights_from_hdf5_group

from common import save_json
from faces import CLASSES, plain, read, training_batches
from notebook_model import APPLICATIONS, build, compile_model


def train_epoch(model, batches):
    """Mean loss and accuracy over the images, as seen while training."""
    images = right = loss = 0.0
    for x, y in batches:
        model.reset_metrics()
        found = model.train_on_batch(x, y, return_dict=True)
        images += len(x)
        loss += found["loss"] * len(x)
        right += found["accuracy"] * len(x)
    return float(loss / images), float(right / images)


def evaluate(model, images, labels, size, batch):
    """Mean loss and accuracy of inference."""
    probabilities = []
    for start in range(0, len(images), batch):
        x = plain(images[start : start + batch], size)
        probabilities.append(np.asarray(model(x, training=False), np.float64))
    probabilities = np.concatenate(probabilities)
    of_class = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.clip(of_class, 1e-7, 1 - 1e-7)).mean()
    return float(loss), float((probabilities.argmax(-1) == labels).mean())


def finetune(options):
    """The result: epochs, and the best of them."""
    keras.utils.set_random_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    images, labels = read(options.data, "Training")
    valid_images, valid_labels = read(options.data, "PublicTest")
    base, model = build(
        options.backbone, options.size, options.dropout, options.bn_momentum, CLASSES
    )
    if options.weights:
        with h5py.File(options.weights) as file:
            load_weights_from_hdf5_group(file, base)
    compile_model(model, options.learning_rate, options.decay)
    epochs, best, wait = [], None, 0
    for epoch in range(1, options.epochs + 1):
        started = time.monotonic()
        batches = training_batches(
            images, labels, options.size, options.batch, rng, not options.no_augmentation
        )
        loss, accuracy = train_epoch(model, batches)
        valid = evaluate(model, valid_images, valid_labels, options.size, options.batch)
        epochs.append(
            {
                "epoch": epoch,
                "loss": loss,
                "accuracy": accuracy,
                "val_loss": valid[0],
                "val_accuracy": valid[1],
                "seconds": round(time.monotonic() - started, 1),
            }
        )
        print(epochs[-1], flush=True)
        wait += 1
        if best is None or valid[1] > best["val_accuracy"]:
            best, wait = epochs[-1], 0
        if wait >= options.patience:
            break
    return {"backbone": options.backbone, "seed": options.seed, "epochs": epochs, "best": best}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="CSV file with emotion, pixels, Usage")
    parser.add_argument("--weights", help="the backbone's start, legacy HDF5; random without it")
    parser.add_argument("--backbone", required=True, choices=list(APPLICATIONS))
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--decay", type=float, default=1e-3)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bn-momentum", type=float, default=0.99)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--no-augmentation", action="store_true")
    parser.add_argument("--out", required=True, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    OPTIONS = arguments()
    save_json(OPTIONS.out, finetune(OPTIONS))
