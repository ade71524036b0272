"""Fine-tunes one backbone from the same weights on the same images with Keras and with Quartet, five seeds
each: `finetune.py WORK [--programs target/release]`. Prints the validation accuracies side by side.

The images are Quartet's drawn faces. Keras trains the backbone on some of them for a while, so that there are
weights to start from, and both sides fine-tune those on others. The script keeps what WORK has already: start
it again after an interruption.
"""

import argparse
import json
import signal
import statistics
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BACKBONE, SIZE, SEEDS = "inception_v3", 75, [1, 2, 3, 4, 5]
BATCH, EPOCHS, LEARNING_RATE, MOMENTUM = 16, 5, 5e-4, 0.9
USAGES = ("Training", "PublicTest", "PrivateTest")


def drawn_faces(programs, store):
    """Three splits of (class, pixels) from the packed data set of a coordinator that is stopped at once."""
    command = [programs / "coordinator", "--store", store, "--listen", "127.0.0.1:0"]
    coordinator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in coordinator.stdout:
        if line.startswith("join workers"):
            break
    coordinator.send_signal(signal.SIGTERM)
    coordinator.wait()
    [packed] = (store / "datasets").glob("*.qds")
    data = packed.read_bytes()
    magic, width, height, classes, _ = struct.unpack_from("<4s4H", data)
    assert (magic, width, height) == (b"QDS1", 48, 48)
    at = 12
    for _ in range(classes):
        at += 2 + struct.unpack_from("<H", data, at)[0]
    counts = struct.unpack_from("<3Q", data, at)
    at += 24
    labels = []
    for count in counts:
        labels.append(data[at : at + count])
        at += count
    splits = []
    for count, of_split in zip(counts, labels):
        pixels = [data[at + i * 2304 : at + (i + 1) * 2304] for i in range(count)]
        splits.append(list(zip(of_split, pixels)))
        at += count * 2304
    return splits


def write_csv(path, splits):
    """FER2013's format."""
    with open(path, "w") as file:
        file.write("emotion,pixels,Usage\n")
        for usage, rows in zip(USAGES, splits):
            for label, pixels in rows:
                file.write(f"{label},{' '.join(map(str, pixels))},{usage}\n")


def keras(work, seed):
    """Validation accuracy of each epoch."""
    out = work / f"keras-{seed}.json"
    options = {
        "data": work / "faces.csv",
        "weights": work / "start.h5",
        "backbone": BACKBONE,
        "size": SIZE,
        "epochs": EPOCHS,
        "batch": BATCH,
        "learning-rate": LEARNING_RATE,
        "bn-momentum": MOMENTUM,
        "seed": seed,
        "out": out,
    }
    if not out.exists():
        python("finetune_keras.py", options)
    return [epoch["val_accuracy"] for epoch in json.loads(out.read_text())["epochs"]]


def quartet(work, programs):
    """The same of each seed."""
    runs = "".join(
        f"""
[[run]]
name = "seed{seed}"
backbone = "{BACKBONE}"
image_size = {SIZE}
learning_rate = {LEARNING_RATE}
seed = {seed}
weights = "start.h5"
"""
        for seed in SEEDS
    )
    head = f'name = "finetune"\nbatch_size = {BATCH}\nepochs = {EPOCHS}\npatience = {EPOCHS}\n'
    toml = work / "finetune.toml"
    toml.write_text(f"{head}batch_norm_momentum = {MOMENTUM}\n{runs}")
    store = work / "quartet"
    command = [programs / "coordinator", "--local", "--workers", "1", "--listen", "127.0.0.1:0"]
    command += ["--data", work / "faces.csv", "--experiment", toml, "--store", store]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = []
    for seed in SEEDS:
        manifests = sorted((store / "finetune" / "runs" / f"seed{seed}" / "epochs").iterdir())
        epochs = [json.loads(manifest.read_text()) for manifest in manifests]
        found.append([epoch["metrics"]["valid_accuracy"] for epoch in epochs])
    return found


def python(script, options):
    """Runs a script of this folder."""
    flags = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    command = [sys.executable, str(HERE / script), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    """Both sides, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--programs", type=Path, default=Path("target/release"))
    options = parser.parse_args()
    work, programs = options.work.resolve(), options.programs.resolve()
    work.mkdir(parents=True, exist_ok=True)
    start = work / "start.h5"
    if not start.exists():
        train, valid, test = drawn_faces(programs, work / "faces")
        write_csv(work / "before.csv", [train[:560], valid[:70], test[:70]])
        write_csv(work / "faces.csv", [train[560:896], valid[70:350], test[70:140]])
        before = {"data": work / "before.csv", "backbone": BACKBONE, "size": SIZE, "epochs": 3}
        python("pretrain_keras.py", {**before, "out": start})
    sides = {"Keras": [keras(work, seed) for seed in SEEDS], "Quartet": quartet(work, programs)}
    print("| | best epoch of each seed | mean | lowest, highest | last epoch, mean |")
    print("| --- | --- | --- | --- | --- |")
    for name, seeds in sides.items():
        best = [max(epochs) for epochs in seeds]
        last = statistics.mean(epochs[-1] for epochs in seeds)
        each = " ".join(f"{value:.1%}" for value in best)
        spread = f"{min(best):.1%}, {max(best):.1%}"
        print(f"| {name} | {each} | {statistics.mean(best):.1%} | {spread} | {last:.1%} |")


if __name__ == "__main__":
    main()
