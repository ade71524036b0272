"""Trains the same runs in float32 and in bfloat16 and compares their loss curves.

Usage: `precision.py WORK [--programs target/release]`. The worker among the programs is one that
deploy/libtorch.sh built. The images are Quartet's drawn faces, and each precision has the same seeds: the
same initial weights, order, augmentation and dropout.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

SEEDS, EPOCHS = [1, 2, 3, 4, 5], 12
METRICS = ["train_loss", "valid_loss", "valid_accuracy"]
HEAD = """name = "{precision}"
batch_size = 32
epochs = {epochs}
patience = {epochs}
batch_norm_momentum = 0.9
precision = "{precision}"
"""
RUN = """
[[run]]
name = "seed{seed}"
backbone = "{backbone}"
image_size = 48
width = 0.25
learning_rate = 1e-3
seed = {seed}
"""


def curves(work, programs, backbone, precision):
    """Metrics of each epoch of each seed."""
    toml = work / f"{precision}.toml"
    runs = "".join(RUN.format(seed=seed, backbone=backbone) for seed in SEEDS)
    toml.write_text(HEAD.format(precision=precision, epochs=EPOCHS) + runs)
    store = work / backbone
    command = [programs / "coordinator", "--local", "--workers", "1", "--listen", "127.0.0.1:0"]
    subprocess.run([*command, "--experiment", toml, "--store", store], check=True, stdout=subprocess.DEVNULL)
    found = []
    for seed in SEEDS:
        epochs = sorted((store / precision / "runs" / f"seed{seed}" / "epochs").iterdir())
        found.append([json.loads(epoch.read_text())["metrics"] for epoch in epochs])
    return found


def main():
    """Both precisions, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--programs", type=Path, default=Path("target/release"))
    parser.add_argument("--backbone", default="resnet50")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = {p: curves(options.work, options.programs, options.backbone, p) for p in ("f32", "bf16")}
    print("| epoch |" + "".join(f" {metric}, {p} |" for metric in METRICS for p in found))
    print("| --- |" + " --- |" * len(METRICS) * len(found))
    for epoch in range(EPOCHS):
        cells = []
        for metric in METRICS:
            for seeds in found.values():
                values = [epochs[epoch][metric] for epochs in seeds]
                cells.append(f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        print(f"| {epoch + 1} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
