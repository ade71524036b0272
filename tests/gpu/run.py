"""What Quartet does on a GPU, in one go: a check of everything that only a GPU shows, and the numbers.

Needs no network: the programs `coordinator`, `worker` and `bench` in --programs, the latter two built with
this machine's LibTorch (deploy/libtorch.sh --pytorch), and a Python with torch, torchvision and timm for
the comparison. --tests is a folder with the unit tests of quartet-kernels as a program. With --data and
--weights (what the coordinator's --data takes, and a folder with NAME.h5) the main job's recipe is trained
on a real data set for as long as --minutes allows. --small rehearses all of it with small networks, --cpu
does so on a CPU. A training with ever less memory is a part of --small and of --only memory.

Prints its conclusions last, and leaves them as JSON in --out. Ends with 1 if something is wrong.
"""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fleet import Fleet, experiment, say
from memory import little_memory

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
BACKBONES = ["resnet50", "vgg16", "inception_v3", "inception_resnet_v2"]
# Of a rehearsal.
SMALL = ["--size", "75", "--batch", "4", "--width", "0.1", "--warm-up", "4", "--steps", "10"]


class Job:
    """The options, what was found, and what is wrong."""

    def __init__(self, options):
        self.options = options
        self.found = {}
        self.wrong = []
        self.work = Path(tempfile.mkdtemp(prefix="quartet-gpu-"))

    def program(self, name):
        """One of Quartet's programs."""
        return str(self.options.programs / name)

    @property
    def device(self):
        """Where workers compute."""
        return ["--backend", "tch"] if self.options.cpu else ["--gpu", "0", "--backend", "tch"]

    def keep(self, name, value):
        """Leaves a finding."""
        self.found[name] = value
        if self.options.out:
            all_of_it = {"found": self.found, "wrong": self.wrong}
            self.options.out.write_text(json.dumps(all_of_it, indent=1) + "\n")

    def fail(self, reason):
        """Something is wrong."""
        say(f"WRONG: {reason}")
        self.wrong.append(reason)
        self.keep("wrong", len(self.wrong))


def unit_tests(job):
    """The tests that need a GPU; without one they have nothing to test."""
    for program in sorted(job.options.tests.iterdir()):
        for tests in ["gpu::", "weights::", "images::"]:
            # A test uses the GPU alone.
            command = [str(program), "--test-threads", "1", tests]
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
                env=os.environ if job.options.cpu else {**os.environ, "QUARTET_EXPECT_GPU": "1"},
            )
            text = done.stdout + done.stderr
            results = re.findall(r"^test result: .*", text, re.MULTILINE)
            say(f"{program.name} {tests} {' '.join(results)}")
            job.keep(f"tests {tests} of {program.name}", results)
            if not re.search(r"[1-9]\d* passed", " ".join(results)):
                job.fail(f"{program.name}: no test {tests} has run")
            if done.returncode:
                job.fail(f"{program.name}: " + "\n".join(re.findall(r"panicked at .*\n.*", text))[:2000])


def speed(job):
    """Quartet beside PyTorch."""
    options = job.options
    if options.small:
        command = [job.program("bench"), "step", "--json", *job.device, "--backbone", *BACKBONES, *SMALL]
        if not options.cpu:
            command += ["--precision", "f32", "bf16", "--graphs", *options.graphs]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        rows = [] if done.returncode else [json.loads(line) for line in done.stdout.splitlines()]
    else:
        table = job.work / "speed.json"
        command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--bench", job.program("bench")]
        command += ["--out", str(table)]
        command += ["--graphs", *options.graphs, "--mode", *options.mode]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        rows = json.loads(table.read_text()) if table.exists() else []
    job.keep("speed", rows)
    if done.returncode:
        job.fail("the comparison of speeds: " + done.stderr[-1500:])
    degraded(job, done.stderr)
    losses = {}
    for row in rows:
        if "graphs" in row:
            losses.setdefault((row["backbone"], row["precision"]), []).append(row["loss"])
            if row["graphs"] == "on" and not row["recorded"] and not options.cpu:
                job.fail(f"steps of {row['backbone']} in {row['precision']} are not recorded")
    for setting, found in losses.items():
        # The same steps. Rounding differs, and grows: on a CPU losses after three steps were 7 % apart.
        if max(found) > 1.5 * min(found) + 0.5:
            job.fail(f"losses of {setting} with and without graphs: {found}")


def degraded(job, log):
    """Whether a program says that it does not record its steps, or has no kernels."""
    signs = r".*operation by operation.*|.*normalisation is LibTorch's.*|.*made on the CPU.*"
    said = re.findall(signs, log)
    if said and not job.options.cpu:
        job.fail("a GPU does not do what it should: " + said[0])


def together(job):
    """Four workers on one GPU: what each does alone, and all at the same time."""
    work = SMALL if job.options.small else ["--precision", "bf16", "--warm-up", "20"]

    def images(backbone, steps):
        steps = [] if job.options.small else ["--steps", str(steps)]
        command = [job.program("bench"), "step", "--json", *job.device, "--backbone", backbone]
        command += [*work, *steps]
        return json.loads(subprocess.check_output(command, text=True))["images_per_second"]

    alone = {backbone: images(backbone, 100) for backbone in BACKBONES}
    # About equally long, so that all are at work while the median is taken.
    steps = {backbone: int(alone[backbone] / 32 * 6) for backbone in BACKBONES}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        shared = dict(zip(BACKBONES, pool.map(lambda b: images(b, steps[b]), BACKBONES)))
    # What a GPU that did one after the other would give: each has a share of its time.
    share = sum(shared[backbone] / alone[backbone] for backbone in BACKBONES)
    job.keep("together", {"alone": alone, "shared": shared, "sum of shares": share})
    say(f"four workers together do {share:.2f} of what one after the other would do")


def weights(store):
    """The hashes of the committed weights, by run and epoch."""
    found = {}
    for manifest in sorted(store.glob("*/runs/*/epochs/*")):
        text = manifest.read_text()
        found["/".join(manifest.parts[-3:])] = sorted(re.findall(r'"sha256":\s*"([0-9a-f]{64})"', text))
    return found


def exact_resume(job):
    """Killed in the middle, a run ends with the bytes of one that was not."""
    size, width, epochs = (48, 0.1, 2) if job.options.small else (200, 1, 6)
    lines = [f"epochs = {epochs}", f"patience = {epochs}", "batch_size = 32"]
    lines += ["deterministic = true", 'precision = "tf32"']
    run = ["[[run]]", 'name = "a"', 'backbone = "resnet50"', f"image_size = {size}", f"width = {width}"]
    toml = experiment(job, "exact", lines, [*run, "learning_rate = 1e-3"])
    arguments = ["--experiment", str(toml), "--checkpoint-interval", "500ms"]
    whole, killed = job.work / "whole", job.work / "killed"
    with Fleet(job, whole, arguments, 1) as fleet:
        status = fleet.end(120)
    with Fleet(job, killed, arguments, 1) as fleet:
        # Once the store has a state from within an epoch.
        end = time.monotonic() + 90
        while not list(killed.glob("*/runs/*/steps/*")) and time.monotonic() < end:
            if fleet.coordinator.poll() is not None:
                break
            time.sleep(0.02)
        fleet.workers[0].kill()
        fleet.workers.append(fleet.start())
        again = fleet.end(120)
    for store in [whole, killed]:
        degraded(job, (job.work / f"{store.name}.log").read_text())
    attempts = len(list(killed.glob("*/runs/*/attempts/*")))
    same = weights(whole) == weights(killed) and len(weights(whole)) == epochs
    job.keep("exact resume", {"statuses": [status, again], "same": same, "attempts": attempts})
    say(f"killed and resumed: {'the same bytes' if same else 'OTHER BYTES'}")
    if [status, again] != [0, 0]:
        job.fail(f"the coordinators ended with {status} and {again}")
    if attempts < 2:
        job.fail("the run had ended before it was killed")
    if not same:
        job.fail(f"a resumed run ends with other bytes: {weights(whole)} and {weights(killed)}")


def training(job):
    """The main job's recipe on a real data set."""
    options = job.options
    runs = []
    for backbone in options.train:
        size = 32 if options.small else 200
        width = ["width = 0.05"] if options.small else []
        file = options.weights / f"{backbone}.h5" if options.weights else None
        given = [f'weights = "{file.resolve()}"'] if file and file.exists() else []
        runs += ["[[run]]", f'name = "{backbone}"', f'backbone = "{backbone}"', f"image_size = {size}"]
        runs += ["learning_rate = 5e-4", *given, *width]
    lines = ["batch_size = 32", f"epochs = {options.epochs}", f'precision = "{options.precision}"']
    toml = experiment(job, "training", lines, runs)
    store = job.work / "training"
    arguments = ["--experiment", str(toml), "--data", str(options.data)]
    with Fleet(job, store, arguments, len(options.train)) as fleet:
        status = fleet.end(options.minutes * 60)
    degraded(job, (job.work / "training.log").read_text())
    if status not in (0, None):
        job.fail(f"the training ended with {status}")
    found = {}
    for manifest in sorted(store.glob("*/runs/*/epochs/*")):
        metrics = json.loads(manifest.read_text())["metrics"]
        found.setdefault(manifest.parts[-3], []).append(metrics)
    job.keep("training", {"status": status, "epochs": found})
    for run, epochs in found.items():
        accuracy = " ".join(f"{100 * epoch['valid_accuracy']:.1f}" for epoch in epochs)
        rate = epochs[-1]["images_per_second"]
        say(f"{run}: validation accuracy {accuracy} %; {rate:.0f} images/s in the last epoch")
    if not found:
        job.fail("nothing was trained: " + (job.work / "training.log").read_text()[-1500:])


def main():
    """Everything that is asked for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--programs", type=Path, default=Path("target/release"))
    parser.add_argument("--tests", type=Path)
    names = ["tests", "speed", "together", "exact", "memory", "training"]
    parser.add_argument("--only", nargs="+", choices=names)
    parser.add_argument("--graphs", nargs="+", default=["on", "off"])
    parser.add_argument("--mode", nargs="*", default=["eager", "graph"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--train", nargs="+", default=["inception_v3", "vgg16"])
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.small |= options.cpu
    parts = {"exact": exact_resume, "speed": speed, "together": together}
    # It takes minutes on a GPU, and shows no more there than in a rehearsal.
    if not options.cpu and (options.small or "memory" in (options.only or [])):
        parts["memory"] = little_memory
    if options.tests:
        parts = {"tests": unit_tests, **parts}
    if options.data:
        parts["training"] = training
    if missing := set(options.only or []) - set(parts):
        parser.error(f"--only {' '.join(missing)}: needs --tests, --data or a GPU")
    job = Job(options)
    for name, part in parts.items():
        if options.only and name not in options.only:
            continue
        say(name)
        try:
            part(job)
        except Exception as error:  # pylint: disable=broad-exception-caught
            job.fail(f"{name}: {error!r}")
    say(f"{len(job.wrong)} wrong; logs are in {job.work}")
    print(json.dumps(job.found)[-6000:])
    for reason in job.wrong:
        print(f"WRONG: {reason}")
    sys.exit(bool(job.wrong))


if __name__ == "__main__":
    main()
