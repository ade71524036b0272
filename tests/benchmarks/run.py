"""Runs the same training steps in Quartet, PyTorch and Keras, in alternating rounds, and compares medians.

Speeds of different rounds differ on a machine that others use, too: only the ratios of medians over
alternating rounds say something. Each measurement is a process of its own with some steps before those that
are timed; each round has its median over steps.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BACKBONES = ["resnet50", "vgg16", "inception_v3", "inception_resnet_v2"]


def contenders(options):
    """Command lines by name, for each precision: Quartet comes first."""
    pytorch, keras = ([sys.executable, str(HERE / name)] for name in ("torch_step.py", "keras_step.py"))
    found = {}
    for precision in options.precision:
        mixed = ["--precision", precision]
        quartet = [options.bench, "step", "--here", "--preset", "fer2013", "--backend", options.backend]
        found[f"Quartet {precision}"] = quartet + mixed
        if precision == "f32":
            found["PyTorch f32, contiguous"] = pytorch
        found[f"PyTorch {precision}, channels last"] = [*pytorch, "--channels-last", *mixed]
        found[f"Keras {precision}"] = keras + mixed
    skipped = [name for name in found if any(skip in name for skip in options.skip)]
    return {name: command for name, command in found.items() if name not in skipped}


def measure(command, backbone, size, batch, options):
    """Images per second and peak memory in bytes of one process."""
    work = ["--backbone", backbone, "--size", str(size), "--batch", str(batch)]
    steps = ["--warm-up", str(options.warm_up), "--steps", str(options.steps)]
    steps += ["--inference"] if options.inference else []
    found = subprocess.run(command + work + steps, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if found.returncode:
        sys.exit(f"{' '.join(command + work + steps)} failed:\n{found.stderr}")
    found = json.loads(found.stdout.splitlines()[-1])
    return found["images_per_second"], found["peak_bytes"]


def compare(backbone, size, batch, options):
    """Prints a table of one kind of work."""
    print(f"\n{backbone} at {size}x{size}, batch {batch}: images/s and peak memory, ", end="")
    print(f"medians of {options.rounds} alternating rounds")
    commands = contenders(options)
    speeds = {name: [] for name in commands}
    memory = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            speed, peak = measure(command, backbone, size, batch, options)
            speeds[name].append(speed)
            memory[name].append(peak)
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    peak = {name: statistics.median(values) for name, values in memory.items()}
    for name, values in speeds.items():
        quartet = "Quartet " + name.replace(",", "").split()[1]
        rounds = " ".join(f"{value:.2f}" for value in values)
        faster, memory_share = speed[quartet] / speed[name], peak[quartet] / peak[name]
        ratio = f"Quartet is {faster:.2f} times as fast with {memory_share:.2f} of the memory"
        measured = f"{name:<28} {speed[name]:>7.2f} {peak[name] / 2**30:>6.2f} GiB"
        print(f"{measured}   {ratio}   ({rounds})", flush=True)


def main():
    """Parses the command line and compares everything that it asks for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    program = "Quartet's program, built by deploy/libtorch.sh --bin bench"
    parser.add_argument("--bench", default="target/release/bench", help=program)
    parser.add_argument("--backend", default="tch")
    parser.add_argument("--backbone", nargs="+", default=BACKBONES, choices=BACKBONES)
    parser.add_argument("--size", nargs="+", type=int, default=[200])
    parser.add_argument("--batch", nargs="+", type=int, default=[32])
    parser.add_argument("--precision", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    skip = "leave out those whose name contains one of these, such as Keras"
    parser.add_argument("--skip", nargs="+", default=[], help=skip)
    parser.add_argument("--inference", action="store_true", help="classify instead of training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load before: {os.getloadavg()[0]:.1f}")
    for backbone in options.backbone:
        for size in options.size:
            for batch in options.batch:
                compare(backbone, size, batch, options)


if __name__ == "__main__":
    main()
