"""A GPU of which LibTorch may have a part only."""

import os
import subprocess

from fleet import Fleet, experiment, say


def limited(mebibytes):
    """What has LibTorch believe that a GPU has no more."""
    if "EMULATOR_MEMORY_MIB" in os.environ:
        return {"EMULATOR_MEMORY_MIB": str(mebibytes)}
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "--id=0"]
    part = mebibytes / float(subprocess.check_output(query, text=True))
    # From LibTorch 2.10 on.
    return {"PYTORCH_CUDA_ALLOC_CONF": f"per_process_memory_fraction:{part:.6f}"}


def outcome(job, mebibytes):
    """What becomes of a training: it is done with recorded steps, with launched ones as the recording failed,
    or again without recording; or it is too large."""
    width = 0.1 if job.options.small else 1
    lines = ["epochs = 1", "batch_size = 32"]
    run = ["[[run]]", 'name = "a"', 'backbone = "resnet50"', "image_size = 75", f"width = {width}"]
    toml = experiment(job, "memory", lines, [*run, "learning_rate = 1e-3"])
    store = job.work / f"memory-{mebibytes}"
    with Fleet(job, store, ["--experiment", str(toml)], 1, limited(mebibytes)) as fleet:
        status, text = fleet.end(120), fleet.text()
    attempts = len(list(store.glob("*/runs/*/attempts/*")))
    begins_again = "so it begins again" in text
    if status == 0 and attempts == 1:
        launched = "launched operation by operation" in text
        return "again" if begins_again else "launched" if launched else "recorded"
    says = "the largest batch that fits is" in text or "not even one image fits" in text
    # What fails in the same way each time is tried once more.
    if status == 1 and says and not begins_again and attempts <= 2:
        return "too large"
    raise RuntimeError(f"{mebibytes} MiB: {status} after {attempts} attempts: {text[-2000:]}")


def little_memory(job):
    """The least memory that a training is done with is enough only without recorded steps."""
    too_little, enough, step = (20, 300, 10) if job.options.small else (200, 8000, 50)
    found = {limit: outcome(job, limit) for limit in [too_little, enough]}
    if list(found.values()) != ["too large", "recorded"]:
        raise RuntimeError(f"with little memory and with much a training is {found}")
    while enough - too_little > step:
        middle = (enough + too_little) // 2
        found[middle] = outcome(job, middle)
        if found[middle] == "too large":
            too_little = middle
        else:
            enough = middle
    job.keep("memory in MiB, and what becomes of a training", found)
    say(f"with {enough} MiB a training is {found[enough]}, with {too_little} it is {found[too_little]}")
    if found[enough] != "again":
        job.fail(f"a training with no memory for recorded steps does not begin again: {found}")
