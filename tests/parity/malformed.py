"""Weights files that must be refused, made from good ones in `features/`."""

import json
import os
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import torch
from safetensors.torch import load_file, save_file

from common import save_json

KERAS, TIMM, PTH = "keras_vgg16_notop.h5", "timm_vgg16_tv.safetensors", "timm_resnet50_pth.pth"


class Touch:
    """Pickles as a call of `os.system` that touches a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


class Malformed:
    """The folder and its list."""

    def __init__(self, out):
        self.good = Path(out) / "features"
        self.folder = Path(out) / "malformed"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.listed = []

    def path(self, name, contains="", backbone="vgg16"):
        """Lists a file; where it goes. `contains` is a name that the error should mention."""
        self.listed.append({"file": name, "backbone": backbone, "contains": contains})
        return self.folder / name

    def half(self, source, name, backbone="vgg16"):
        """The first half of a good file."""
        content = (self.good / source).read_bytes()
        self.path(name, backbone=backbone).write_bytes(content[: len(content) // 2])

    def keras(self):
        """HDF5."""
        self.half(KERAS, "truncated.h5")
        self.path("text.h5").write_text("These are no weights.\n" * 100)
        self.path("empty.h5").write_bytes(b"")
        shutil.copyfile(self.good / KERAS, self.path("layer_missing.h5", "block4_conv2"))
        with h5py.File(self.folder / "layer_missing.h5", "r+") as file:
            names = [name for name in file.attrs["layer_names"] if name != b"block4_conv2"]
            file.attrs["layer_names"] = names
            del file["block4_conv2"]
        shutil.copyfile(self.good / KERAS, self.path("kernel_misshapen.h5", "block2_conv1"))
        with h5py.File(self.folder / "kernel_misshapen.h5", "r+") as file:
            group = file["block2_conv1"]["block2_conv1"]
            kernel = group["kernel"][()]
            del group["kernel"]
            group["kernel"] = kernel[:, :, :, :-1]
        with zipfile.ZipFile(self.path("compressed.keras", "compressed"), "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.write(self.good / KERAS, "model.weights.h5", zipfile.ZIP_DEFLATED)

    def safetensors(self):
        """safetensors; each but for its one mistake is complete."""
        self.half(TIMM, "truncated.safetensors")
        header = {
            "features.0.weight": {
                "dtype": "F32",
                "shape": [2**40, 2**40, 3, 3],
                "data_offsets": [0, 2**60],
            }
        }
        self.header("absurd_shape.safetensors", json.dumps(header).encode(), bytes(1024))
        self.header("no_json.safetensors", b"{" * 64, bytes(64))
        self.path("absurd_header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
        tensors = load_file(self.good / TIMM)
        tensors = {k: v for k, v in tensors.items() if k.startswith("features.")}
        name = "features.17.weight"
        missing = {key: value for key, value in tensors.items() if key != name}
        save_file(missing, self.path("key_missing.safetensors", name))
        extra = {**tensors, "features.99.weight": torch.zeros(3)}
        save_file(extra, self.path("key_extra.safetensors", "features.99.weight"))
        misshapen = {**tensors, name: tensors[name][:, :-1].contiguous()}
        save_file(misshapen, self.path("key_misshapen.safetensors", name))

    def header(self, name, header, content):
        """A safetensors file by hand."""
        self.path(name).write_bytes(struct.pack("<Q", len(header)) + header + content)

    def pickles(self):
        """`.pth`: files that would run a command when unpickled as PyTorch used to."""
        self.half(PTH, "truncated.pth", "resnet50")
        self.path("text.pth").write_text("These are no weights.\n" * 100)
        executed = self.folder / "EXECUTED"
        state = {"features.0.weight": torch.zeros(64, 3, 3, 3), "evil": Touch(executed.resolve())}
        torch.save(state, self.path("executes.pth"))
        legacy = self.path("executes_legacy.pth")
        torch.save(state, legacy, _use_new_zipfile_serialization=False)
        executed.unlink(missing_ok=True)
        for name in ("executes.pth", "executes_legacy.pth"):
            torch.load(self.folder / name, weights_only=False)
            assert executed.exists(), f"{name} would do no harm"
            executed.unlink()


def main(out):
    """Writes `malformed/` and `malformed.json`."""
    made = Malformed(out)
    made.keras()
    made.safetensors()
    made.pickles()
    save_json(made.folder / "malformed.json", made.listed)


if __name__ == "__main__":
    main(sys.argv[1])
