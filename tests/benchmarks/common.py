"""Arguments and timing that the benchmarks of PyTorch and Keras share."""

import argparse
import json
import statistics
import time

LEARNING_RATE = 5e-4
EPSILON = 1e-7
CLASSES = 7
HIDDEN = 1024


def arguments(doc):
    """The command line of a benchmark."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--inference", action="store_true", help="classify instead of training")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    return parser.parse_args()


def measure(options, step):
    """Calls `step`, which returns the loss, and prints the median as JSON."""
    seconds = []
    for index in range(options.warm_up + options.steps):
        started = time.perf_counter()
        loss = step()
        if index >= options.warm_up:
            seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    found = {"images_per_second": options.batch / median, "loss": float(loss), "peak_bytes": peak_bytes()}
    print(json.dumps(found))


def peak_bytes():
    """The most memory that this process has ever had, as Quartet's program measures it."""
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
