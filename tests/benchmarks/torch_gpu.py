"""Training steps of PyTorch on a GPU, all in one process: a JSON object per line.

The networks are those of torch_step.py. A step is eager, compiled (`torch.compile(mode="max-autotune")`), or
replayed whole as one CUDA graph: zero_grad, forward, loss, backward and fused Adam. All have channels last.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn

from common import CLASSES, EPSILON, LEARNING_RATE
from torch_step import network

# Steps between two looks at the clock.
GROUP = 10


def recorded(step):
    """`step` as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def measure(backbone, size, batch, precision, mode, options):
    """What one step costs."""
    torch.manual_seed(1)
    net = network(backbone).cuda().to(memory_format=torch.channels_last).train()
    images = torch.rand(batch, 3, size, size, device="cuda").to(memory_format=torch.channels_last)
    labels = (torch.arange(batch) % CLASSES).cuda()
    settings = {"lr": LEARNING_RATE, "eps": EPSILON, "fused": True, "capturable": mode == "graph"}
    optimizer = torch.optim.Adam(net.parameters(), **settings)
    forward = torch.compile(net, mode="max-autotune") if mode == "compile" else net

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            logits = forward(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    torch.cuda.reset_peak_memory_stats()
    run = recorded(step) if mode == "graph" else step
    for _ in range(options.warm_up):
        run()
    seconds = []
    for _ in range(options.steps // GROUP):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(GROUP):
            run()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - started) / GROUP)
    median = statistics.median(seconds)
    return {"images_per_second": batch / median, "gpu_peak_bytes": torch.cuda.max_memory_allocated()}


def main():
    """Measures every combination."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--backbone", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", nargs="+", default=["tf32", "bf16"], choices=["f32", "tf32", "bf16"])
    modes = ["eager", "graph", "compile"]
    parser.add_argument("--mode", nargs="+", default=["eager", "graph"], choices=modes)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    for backbone in options.backbone:
        for precision in options.precision:
            tf32 = precision != "f32"
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            for mode in options.mode:
                setting = {"backbone": backbone, "precision": precision, "mode": mode}
                try:
                    found = measure(backbone, options.size, options.batch, precision, mode, options)
                except Exception as error:  # pylint: disable=broad-exception-caught
                    found = {"error": repr(error)[:300]}
                print(json.dumps({**setting, **found}), flush=True)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
