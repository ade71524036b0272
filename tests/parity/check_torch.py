"""Checks an exported PyTorch network with `docs/torch_network.py`:
`check_torch.py NETWORK.safetensors EXPECTED.safetensors`.

It must give on `images` of EXPECTED, gray values of u8, its `probabilities`, to 1e-4.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))
from torch_network import load  # noqa: E402

TOLERANCE = 1e-4


@torch.no_grad()
def main(path, expected):
    """Exit status 1 and a message on stderr where something is wrong."""
    torch.set_num_threads(2)
    expected = load_file(expected)
    network, classes = load(path)
    wanted = expected["probabilities"]
    assert len(classes) == wanted.shape[1], classes
    found = network(expected["images"])
    difference = (found - wanted).abs().max().item()
    print(f"largest difference of a probability: {difference:.1e}")
    if not difference <= TOLERANCE:
        sys.exit(f"{path}: probabilities differ by {difference:.1e}, {TOLERANCE} is allowed")


if __name__ == "__main__":
    main(*sys.argv[1:])
