"""Reads every checkpoint of an experiment with Python's safetensors, and checks it against its manifest.

Usage: read_checkpoints.py STORE EXPERIMENT
"""

import hashlib
import json
import pathlib
import sys

import numpy
from safetensors import safe_open


def tensors(store: pathlib.Path, blob: dict) -> dict:
    path = store / blob["key"]
    content = path.read_bytes()
    assert len(content) == blob["size"], path
    assert hashlib.sha256(content).hexdigest() == blob["sha256"], path
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def main() -> None:
    store, experiment = pathlib.Path(sys.argv[1]), sys.argv[2]
    runs = json.loads((store / experiment / "spec.json").read_text())["experiment"]["runs"]
    for run in runs:
        folder = store / experiment / "runs" / run["name"]
        manifest = json.loads(sorted((folder / "epochs").iterdir())[-1].read_text())
        weights = tensors(store, manifest["weights"])
        state = tensors(store, manifest["training_state"])
        assert weights and all(numpy.isfinite(w).all() for w in weights.values()), folder
        moments = [name for name in state if name.startswith("adam.")]
        assert moments, folder
        for name in moments:
            parameter = name.split(".", 2)[2]
            assert state[name].shape == weights[parameter].shape, name
        size = sum(w.size for w in weights.values())
        print(f"{run['name']}: {len(weights)} tensors, {size} values, {len(moments)} moments")
    assert runs, "the experiment has no runs"


if __name__ == "__main__":
    main()
