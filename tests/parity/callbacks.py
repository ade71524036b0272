"""Keras' own EarlyStopping and ModelCheckpoint on random validation accuracies."""

import sys
import tempfile
from types import SimpleNamespace

import numpy as np
from keras.callbacks import EarlyStopping, ModelCheckpoint

from common import save_json

SEQUENCES, LONGEST, IMAGES = 1000, 50, 3589


class StubModel(SimpleNamespace):
    """What the callbacks need of a model: it counts its saves."""

    def __init__(self):
        super().__init__(stop_training=False, optimizer=None, epoch=0, saved=[])

    def save(self, *_args, **_options):
        self.saved.append(self.epoch)

    save_weights = save


def observe(values, patience, folder):
    """Trains for as long as EarlyStopping lets it."""
    model = StubModel()
    stopping = EarlyStopping(monitor="val_acc", mode="max", patience=patience)
    checkpoint = ModelCheckpoint(
        f"{folder}/best.keras", monitor="val_acc", mode="max", save_best_only=True
    )
    for callback in (stopping, checkpoint):
        callback.set_model(model)
        callback.on_train_begin()
    for model.epoch, value in enumerate(values, 1):
        for callback in (stopping, checkpoint):
            callback.on_epoch_end(model.epoch - 1, {"val_acc": value})
        if model.stop_training:
            break
    return {
        "patience": patience,
        "values": values,
        "stopped_epoch": model.epoch,
        "best_epoch": model.saved[-1],
    }


def accuracies(rng):
    """A climbing, noisy and coarse curve with ties and plateaus: counts of right answers out of the set."""
    length = int(rng.integers(1, LONGEST + 1))
    climb = 1 - np.exp(-np.arange(length) / rng.uniform(1, 30))
    curve = rng.uniform(0.1, 0.6) * climb + rng.normal(0, rng.uniform(0, 0.05), length)
    steps = rng.choice([10, 20, 50])
    curve = np.clip(np.round(curve * steps), 0, steps) / steps
    if rng.random() < 0.3:
        start = rng.integers(0, length)
        curve[start : start + rng.integers(1, 15)] = curve[start]
    return [round(value * IMAGES) / IMAGES for value in curve]


def main(out):
    """Writes `callbacks.json`."""
    rng = np.random.default_rng(800)
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            observe(accuracies(rng), int(rng.integers(1, 11)), folder) for _ in range(SEQUENCES)
        ]
    stopped = sum(case["stopped_epoch"] < len(case["values"]) for case in cases)
    tied = sum(case["values"].count(max(case["values"])) > 1 for case in cases)
    assert SEQUENCES // 4 < stopped < SEQUENCES, stopped
    assert tied > SEQUENCES // 4, tied
    print(f"  {stopped} of {SEQUENCES} stop early, {tied} reach their highest value more than once")
    save_json(f"{out}/callbacks.json", cases)


if __name__ == "__main__":
    main(sys.argv[1])
