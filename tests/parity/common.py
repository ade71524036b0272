"""Random images, small file helpers and the list of feature cases, without any framework."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.ndimage import zoom

SIZES = [75, 139, 200, 299]
TRAINED = ["vgg16", "resnet50", "inception_v3"]


def smooth_images(rng, count, size, channels=3):
    """Random images, `[count, channels, size, size]` f32 in [0, 1]: blobs of a few scales, and noise."""
    images = np.zeros((count, channels, size, size))
    for cells in (4, 9):
        coarse = rng.uniform(-1, 1, (count, channels, cells, cells))
        fine = zoom(
            coarse, (1, 1, size / cells, size / cells), order=3, mode="nearest", grid_mode=True
        )
        images += fine * (2.0 / cells**0.5)
    images += rng.normal(0, 0.15, images.shape)
    low, high = images.min((1, 2, 3), keepdims=True), images.max((1, 2, 3), keepdims=True)
    return ((images - low) / (high - low)).astype(np.float32)


def save_tensors(path, tensors):
    """Writes a safetensors file of contiguous arrays, making its folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, str(path))


def save_json(path, value):
    """Writes JSON, making the folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value, indent=1) + "\n")


def nchw(array):
    """Channels last to channels first."""
    return np.ascontiguousarray(np.transpose(np.asarray(array), (0, 3, 1, 2)))


def check_features(name, features):
    """Features that could not tell a wrong network from a right one are refused."""
    features = np.asarray(features, np.float64)
    assert np.isfinite(features).all(), f"{name}: not finite"
    largest = np.abs(features).max()
    assert 0.1 < largest < 1e4, f"{name}: largest is {largest}"
    assert (features != 0).mean() > 0.02, f"{name}: nearly all 0"
    between = np.abs(features[0] - features[1]).max() / largest
    assert between > 0.05, f"{name}: the images are hardly told apart ({between})"


def relative_difference(a, b):
    """Largest difference, relative to the largest value."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))


class Cases:
    """The cases of one framework: weights files with the features they must give."""

    def __init__(self, out, part):
        self.folder = Path(out) / "features"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.part = part
        self.cases = []

    def file(self, name, suffix):
        """Where the weights of a case go."""
        return self.folder / f"{name}{suffix}"

    def add(self, name, backbone, suffix, framework, tensors, **extra):
        """Saves a case's inputs and features, and lists it."""
        reference = f"{name}.features.safetensors"
        save_tensors(self.folder / reference, tensors)
        sizes = sorted(
            int(key.removeprefix("input_")) for key in tensors if key.startswith("input_")
        )
        for size in sizes:
            check_features(f"{name} at {size}", tensors[f"features_{size}"])
        self.cases.append(
            {
                "name": name,
                "backbone": backbone,
                "file": f"{name}{suffix}",
                "sizes": sizes,
                "reference": reference,
                "framework": framework,
                **extra,
            }
        )

    def close(self):
        """Writes this framework's list and joins those that exist to `cases.json`."""
        save_json(self.folder / f"cases.{self.part}.json", self.cases)
        joined = []
        for part in sorted(self.folder.glob("cases.*.json")):
            joined += json.loads(part.read_text())
        save_json(self.folder / "cases.json", joined)
