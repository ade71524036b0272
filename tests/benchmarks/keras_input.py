"""Images a second of Keras' `ImageDataGenerator` with the notebook's augmentation, on images that are resized
already: `keras_input.py [--size 200]`. The counterpart is Quartet's `bench input`, which resizes, too."""

import argparse
import os
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator


def main():
    """Makes some batches, then times twenty."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    images = np.random.rand(256, options.size, options.size, 3).astype("float32") * 255
    change = {"width_shift_range": 0.1, "height_shift_range": 0.1, "zoom_range": 0.1, "horizontal_flip": True}
    generator = ImageDataGenerator(rescale=1 / 255, fill_mode="nearest", **change)
    batches = generator.flow(images, batch_size=options.batch)
    for _ in range(2):
        next(batches)
    started = time.perf_counter()
    for _ in range(20):
        next(batches)
    print(f"{20 * options.batch / (time.perf_counter() - started):.0f} images/s")


if __name__ == "__main__":
    main()
