"""What the peers share: their arguments, and how steps are timed."""

import argparse
import json
import statistics
import time

LEARNING_RATE = 5e-4
EPSILON = 1e-7
CLASSES = 7
HIDDEN = 1024


def arguments(doc):
    """The command line of a peer."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--channels-last", action="store_true")
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
    print(json.dumps({"images_per_second": options.batch / median, "loss": float(loss)}))
