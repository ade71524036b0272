"""Writes everything that the parity tests compare with: `references.py OUT [--only PART]`.

Each part runs in a process of its own, because TensorFlow and PyTorch do not share one well.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from common import TRAINED

HERE = Path(__file__).resolve().parent
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0"}


def parts(out):
    """By name, the commands that make it."""
    simple = {
        "features_keras": [["features_keras.py", out]],
        "features_torch": [["features_torch.py", out]],
        "malformed": [["malformed.py", out]],
        "adam": [["adam.py", out]],
        "augmentation": [["augmentation.py", out]],
        "callbacks": [["callbacks.py", out]],
        "ensemble": [["ensemble.py", out]],
    }
    runs = [["training.py", out, name, width] for name in TRAINED for width in ("32", "64")]
    return {**simple, "training": runs + [["training.py", out, "join"]]}


def run(command):
    """One script; what it says on stderr is shown only if it fails."""
    script, *arguments = command
    found = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env={**os.environ, **QUIET},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{found.stderr}")


def main():
    """Runs all parts or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=list(parts("")))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for part, commands in parts(str(options.out.resolve())).items():
        if options.only in (None, part):
            started = time.monotonic()
            for command in commands:
                run(command)
            print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
