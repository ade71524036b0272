"""Which operations a recorded training step is: `count.py BENCH`, with the emulator's libraries loaded.

A line for each kind of operation, with its number in each backbone's step in tf32 and bf16.
"""

import collections
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BACKBONES = ["resnet50", "vgg16", "inception_v3", "inception_resnet_v2"]
PRECISIONS = ["tf32", "bf16"]


def label(name):
    """A kernel's name in short: LibTorch's are templates of templates."""
    if "<" not in name:
        return name
    kernel = re.sub(r"<.*", "", name).split("::")[-1].split(" ")[-1]
    words = r"\w+Functor\w*|\w+_kernel_cuda|\w+_kernel_impl\b|launch_\w+|\w+Ops\b|sum_functor"
    said = re.findall(words, name)
    said = [word for word in dict.fromkeys(said) if not word.startswith("gpu_kernel")]
    return " ".join([kernel, *said[:2]])


def step(bench, backbone, precision):
    """The numbers of operations of the recorded step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [bench, "step", "--here", "--gpu", "0", "--backend", "tch", "--backbone", backbone]
        command += ["--precision", precision, "--graphs", "on", "--warm-up", "3", "--steps", "1"]
        environment = {**os.environ, "EMULATOR_GRAPHS": folder}
        # Kernels that do nothing make numbers of all kinds, which may be told to be wrong.
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        graphs = list(Path(folder).iterdir())
        if done.returncode or len(graphs) != 1:
            sys.exit(f"{' '.join(command)}: {len(graphs)} graphs\n{done.stderr}")
        [graph] = graphs
        return collections.Counter(map(label, graph.read_text(encoding="utf-8").splitlines()))


def main():
    """Prints the table."""
    columns = {f"{backbone} {precision}": step(sys.argv[1], backbone, precision)
               for backbone in BACKBONES for precision in PRECISIONS}
    print("# columns: " + ", ".join(columns))
    total = sum(columns.values(), collections.Counter())
    rows = [("all", [sum(column.values()) for column in columns.values()])]
    rows += [(name, [column[name] for column in columns.values()]) for name, _ in total.most_common()]
    for name, numbers in rows:
        print(" ".join(f"{number:5}" for number in numbers), name)


if __name__ == "__main__":
    main()
