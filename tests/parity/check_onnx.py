"""Checks an exported ONNX file with onnxruntime: `check_onnx.py MODEL.onnx EXPECTED.safetensors`.

It must give on `images` of EXPECTED, gray values of u8, its `probabilities`, to 1e-4; of all at once and of
each alone.
"""

import json
import sys

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4


def main(path, expected):
    """Exit status 1 and a message on stderr where something is wrong."""
    expected = load_file(expected)
    images, wanted = expected["images"], expected["probabilities"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert len(classes) == wanted.shape[1], classes
    (found,) = session.run(["probabilities"], {"images": images})
    alone = [session.run(None, {"images": image[None]})[0] for image in images]
    for name, values in [("together", found), ("alone", np.concatenate(alone))]:
        assert values.shape == wanted.shape, values.shape
        difference = float(np.abs(values - wanted).max())
        print(f"largest difference of a probability, images {name}: {difference:.1e}")
        if not difference <= TOLERANCE:
            sys.exit(f"{path}: probabilities differ by {difference:.1e}, {TOLERANCE} is allowed")


if __name__ == "__main__":
    main(*sys.argv[1:])
