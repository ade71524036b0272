"""Keras' augmentation on given draws, and the distribution of the draws that Keras makes itself."""

import sys

import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator, apply_affine_transform

from common import save_tensors, smooth_images

SIDE, IMAGES, LARGE_IMAGES, DRAWN = 48, 200, 40, 100_000
RANGE = 0.1


def resize(image, size):
    """Nearest neighbour, as `load_img(target_size=..)` does it."""
    source = np.floor((np.arange(size) + 0.5) * image.shape[0] / size).astype(int)
    return image[source][:, source]


def augment(image, draw):
    """One image `[S, S]` changed by (row shift, column shift, row zoom, column zoom, flip).

    Output pixel (r, c) samples the input at centre + zoom * (r - centre) + shift, likewise for columns. Keras
    3 swaps the axes of all four parameters inside, so those of the rows are given as `ty` and `zy`. It also
    leaves out shift or zoom only when both of its axes have none, which changes nothing.
    """
    rows, columns, zoom_rows, zoom_columns, flip = draw
    size = image.shape[0]
    changed = apply_affine_transform(
        image[:, :, None].astype(np.float32),
        tx=columns * size,
        ty=rows * size,
        zx=zoom_columns,
        zy=zoom_rows,
        row_axis=0,
        col_axis=1,
        channel_axis=2,
        fill_mode="nearest",
        order=1,
    )[:, :, 0]
    return changed[:, ::-1] if flip else changed


def check_axes():
    """The meaning of a draw, on an image that says where each pixel is from."""
    size = 20
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    draw = (0.1, -0.05, 0.9, 1.1, 0)
    centre = size / 2 - 0.5
    for ramp, shift, zoom in ((rows, 0.1, 0.9), (columns, -0.05, 1.1)):
        expected = np.clip(centre + zoom * (ramp - centre) + shift * size, 0, size - 1)
        assert np.abs(augment(ramp, draw) - expected).max() < 1e-4


def random_draws(rng, count):
    """Draws over the whole ranges; the first ones are corner cases."""
    draws = np.column_stack(
        [
            rng.uniform(-RANGE, RANGE, (count, 2)),
            rng.uniform(1 - RANGE, 1 + RANGE, (count, 2)),
            rng.integers(0, 2, count),
        ]
    )
    draws[0] = (0, 0, 1, 1, 0)
    draws[1] = (0, 0, 1, 1, 1)
    draws[2] = (0.1, 0.1, 1.1, 1.1, 0)
    draws[3] = (-0.1, -0.1, 1.1, 1.1, 1)
    draws[4] = (0.1, 0, 1, 1, 0)
    draws[5] = (0, 0.1, 1, 1, 0)
    draws[6] = (0, 0, 0.9, 1, 0)
    draws[7] = (0, 0, 1, 0.9, 0)
    return draws


def images(rng):
    """Gray images u8 `[IMAGES, SIDE, SIDE]`: smooth ones, and a fifth of pure noise."""
    smooth = smooth_images(rng, IMAGES, SIDE, channels=1)[:, 0]
    found = np.round(smooth * 255).astype(np.uint8)
    found[::5] = rng.integers(0, 256, found[::5].shape)
    return found


def keras_draws():
    """What Keras draws, in the meaning of a draw above."""
    generator = ImageDataGenerator(
        height_shift_range=RANGE, width_shift_range=RANGE, zoom_range=RANGE, horizontal_flip=True
    )
    np.random.seed(700)
    shape = (SIDE, SIDE, 1)
    found = [generator.get_random_transform(shape) for _ in range(DRAWN)]
    # Keras swaps the axes inside: `ty` moves rows. The ranges are equal, so it makes no difference here.
    drawn = [(t["ty"] / SIDE, t["tx"] / SIDE, t["zy"], t["zx"]) for t in found]
    return np.array(drawn), np.array([t["flip_horizontal"] for t in found], np.uint8)


def main(out):
    """Writes `augmentation.safetensors`."""
    check_axes()
    rng = np.random.default_rng(701)
    given, draws = images(rng), random_draws(rng, IMAGES)

    def expected(size, count):
        pairs = zip(given[:count], draws[:count])
        return np.stack([augment(resize(image, size), draw) for image, draw in pairs])

    drawn, flips = keras_draws()
    save_tensors(
        f"{out}/augmentation.safetensors",
        {
            "images": given,
            "draws": draws,
            "expected_75": expected(75, IMAGES).astype(np.float32),
            "expected_200": expected(200, LARGE_IMAGES).astype(np.float32),
            "drawn": drawn,
            "flips": flips,
        },
    )


if __name__ == "__main__":
    main(sys.argv[1])
