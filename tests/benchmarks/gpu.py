"""Compares training steps of Quartet and PyTorch on one GPU: a table of ratios, and a JSON file.

Needs no network: the program `bench`, built with this machine's LibTorch (deploy/libtorch.sh --pytorch --bin
bench), and a Python with torch, torchvision and timm. Each of Quartet's settings is a process of its own;
PyTorch measures all of its in one.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BACKBONES = ["resnet50", "vgg16", "inception_v3", "inception_resnet_v2"]


def lines(command, environment=None):
    """The JSON objects that a command prints; a line that is none is passed on."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
            else:
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        print(f"{command[0]} ended with {process.returncode}", file=sys.stderr, flush=True)


def quartet(options):
    """What Quartet's steps cost, by backbone, precision and mode."""
    command = [options.bench, "step", "--json", "--backend", "tch", "--gpu", str(options.gpu)]
    command += ["--backbone", *options.backbone, "--precision", *options.precision]
    command += ["--size", str(options.size), "--batch", str(options.batch), "--graphs", *options.graphs]
    command += ["--warm-up", str(options.warm_up), "--steps", str(options.steps)]
    for row in lines(command):
        yield (row["backbone"], row["precision"], f"Quartet, graphs {row['graphs']}"), row


def pytorch(options):
    """The same of PyTorch."""
    command = [sys.executable, str(HERE / "torch_gpu.py"), "--mode", *options.mode]
    command += ["--backbone", *options.backbone, "--precision", *options.precision]
    command += ["--size", str(options.size), "--batch", str(options.batch)]
    command += ["--warm-up", str(options.warm_up), "--steps", str(options.steps)]
    # In the order in which Quartet numbers GPUs, too.
    environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(options.gpu)}
    for row in lines(command, environment):
        yield (row["backbone"], row["precision"], f"PyTorch, {row['mode']}"), row


def table(found):
    """One line for each measurement; Quartet's best of a backbone and precision against it."""
    ours = {}
    for (backbone, precision, name), row in found.items():
        if name.startswith("Quartet") and "images_per_second" in row:
            best = ours.setdefault((backbone, precision), row)
            if row["images_per_second"] > best["images_per_second"]:
                ours[backbone, precision] = row
    print(f"\n{'':<20} {'':<5} {'':<20} {'images/s':>9} {'GiB':>6} {'Quartet is':>11} {'memory':>7}")
    for (backbone, precision, name), row in found.items():
        start = f"{backbone:<20} {precision:<5} {name:<20}"
        if "images_per_second" not in row:
            print(f"{start} {row.get('error', 'failed')}")
            continue
        speed, memory = row["images_per_second"], row["gpu_peak_bytes"]
        best, ratios = ours.get((backbone, precision)), ""
        if best:
            ratios = f"{best['images_per_second'] / speed:>10.2f}x {best['gpu_peak_bytes'] / memory:>7.2f}"
        print(f"{start} {speed:>9.1f} {memory / 2**30:>6.2f} {ratios}")


def main():
    """Measures and compares."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--bench", default="target/release/bench")
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--backbone", nargs="+", default=BACKBONES, choices=BACKBONES)
    parser.add_argument("--precision", nargs="+", default=["tf32", "bf16"], choices=["f32", "tf32", "bf16"])
    parser.add_argument("--graphs", nargs="+", default=["on"], choices=["on", "off"], help="Quartet's modes")
    modes = ["eager", "graph", "compile"]
    of_pytorch = {"choices": modes, "help": "PyTorch's modes"}
    parser.add_argument("--mode", nargs="*", default=["eager", "graph"], **of_pytorch)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, help="a file for the measurements as JSON")
    options = parser.parse_args()
    found = {}
    for measured in [quartet, pytorch] if options.mode else [quartet]:
        for key, row in measured(options):
            found[key] = row
            print(json.dumps(row), file=sys.stderr, flush=True)
            if options.out:
                options.out.write_text(json.dumps(list(found.values()), indent=1) + "\n")
    table(found)
    wanted = len(options.backbone) * len(options.precision) * (len(options.graphs) + len(options.mode))
    measured = [row for row in found.values() if "images_per_second" in row]
    if len(measured) < wanted:
        sys.exit(f"{wanted - len(measured)} of {wanted} could not be measured")


if __name__ == "__main__":
    main()
