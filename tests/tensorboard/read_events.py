"""Reads an experiment's event files with TensorBoard's own reader, and checks every scalar and hyperparameter
against the manifests and the spec.

Usage: read_events.py STORE EXPERIMENT
"""

import collections
import datetime
import json
import pathlib
import struct
import sys

import numpy
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.util import tensor_util

TRAIN = ["epoch_loss", "epoch_accuracy", "epoch_learning_rate", "images_per_second", "seconds_per_epoch"]
VALIDATION = ["epoch_loss", "epoch_accuracy"]
# Hyperparameters, and whether the run or the experiment has them.
OF_RUN = ["backbone", "weights", "learning_rate", "decay", "dropout", "width", "image_size", "seed"]
OF_EXPERIMENT = ["batch_size", "epochs", "patience", "precision"]


class Difference(Exception):
    """The event files say something else than the store."""


def check(condition: bool, message: str) -> None:
    if not condition:
        raise Difference(message)


def read_json(path: pathlib.Path):
    return json.loads(path.read_text())


def training_images(path: pathlib.Path) -> int:
    """The first of the three counts in the header of a packed data set."""
    content = path.read_bytes()
    (classes,) = struct.unpack_from("<H", content, 8)
    at = 12
    for _ in range(classes):
        at += 2 + struct.unpack_from("<H", content, at)[0]
    return struct.unpack_from("<Q", content, at)[0]


def manifests(folder: pathlib.Path) -> list[list[dict]]:
    """The manifests of each epoch. One that was rolled back has several, and its event file is of any."""
    found = collections.defaultdict(list)
    for path in [*folder.glob("epochs/*.json"), *folder.glob("discarded/*/*.json")]:
        manifest = read_json(path)
        if "metrics" in manifest:
            found[manifest["epoch"]].append(manifest)
    return [found[epoch] for epoch in sorted(found)]


def scalars_of(manifest: dict, run: dict, steps_per_epoch: int) -> dict[str, dict[str, float]]:
    metrics = {name: float(value) for name, value in manifest["metrics"].items()}
    updates = steps_per_epoch * manifest["epoch"]
    rate = run["learning_rate"] / (1 + run["decay"] * updates)
    train = [metrics["train_loss"], metrics["train_accuracy"], rate]
    train += [metrics["images_per_second"], metrics["seconds"]]
    validation = [metrics["valid_loss"], metrics["valid_accuracy"]]
    return {
        "train": dict(zip(TRAIN, train, strict=True)),
        "validation": dict(zip(VALIDATION, validation, strict=True)),
    }


def is_of(event, manifest: dict, value: float) -> bool:
    time = manifest.get("committed_at")
    seconds = datetime.datetime.fromisoformat(time).timestamp() if time else 0.0
    tensor = tensor_util.make_ndarray(event.tensor_proto)
    return (
        abs(event.wall_time - seconds) < 1e-4
        and tensor.dtype == numpy.float32
        and tensor.shape == ()
        and numpy.array_equal(tensor, numpy.float32(value), equal_nan=True)
    )


def check_scalars(events, run: dict, epochs: list[list[dict]], steps_per_epoch: int) -> int:
    """Checks that TensorBoard has a scalar for each tag and epoch and no other. Returns how many."""
    name, count = run["name"], 0
    for part, tags in [("train", TRAIN), ("validation", VALIDATION)]:
        folder = f"{name}/{part}"
        if not epochs:
            check(folder not in events.Runs(), f"{folder} has events, but {name} has no epoch")
            continue
        check(folder in events.Runs(), f"there is no {folder}")
        found = events.Runs()[folder][event_accumulator.TENSORS]
        check(sorted(found) == sorted(tags), f"{folder} has the tags {sorted(found)}")
        for tag in tags:
            plugin = events.SummaryMetadata(folder, tag).plugin_data.plugin_name
            check(plugin == "scalars", f"{folder}: {tag} is for the plugin {plugin}")
            series = events.Tensors(folder, tag)
            steps = [event.step for event in series]
            check(steps == list(range(len(epochs))), f"{folder}: {tag} has the steps {steps}")
            for event, candidates in zip(series, epochs, strict=True):
                values = [scalars_of(m, run, steps_per_epoch)[part][tag] for m in candidates]
                fits = any(map(is_of, [event] * len(values), candidates, values))
                read = tensor_util.make_ndarray(event.tensor_proto)
                at = f"{folder}: {tag} at step {event.step}"
                check(fits, f"{at} is {read} of {event.wall_time}; the manifest says {values}")
                count += 1
    return count


def plugin_data(events, run: str, tag: str) -> bytes | None:
    contents = events.PluginRunToTagToContent(hparams.PLUGIN_NAME)
    return contents.get(run, {}).get(tag)


def hyperparameters(experiment: dict, run: dict) -> dict:
    values = {name: run[name] for name in OF_RUN}
    values |= {name: experiment[name] for name in OF_EXPERIMENT}
    return values | {"freeze": run.get("freeze", "none"), "seed": str(run["seed"])}


def plain(value):
    return getattr(value, value.WhichOneof("kind"))


def check_session(events, experiment: dict, run: dict, folder: pathlib.Path) -> None:
    """Checks a run's hyperparameters and its end."""
    name = run["name"]
    content = plugin_data(events, name, hparams.SESSION_START_INFO_TAG)
    check(content is not None, f"{name} has no hyperparameters")
    start = hparams.parse_session_start_info_plugin_data(content)
    found = {name: plain(value) for name, value in start.hparams.items()}
    expected = hyperparameters(experiment, run)
    check(found == expected, f"{name} has the hyperparameters {found}; the spec says {expected}")
    content = plugin_data(events, name, hparams.SESSION_END_INFO_TAG)
    status = None
    if content is not None:
        status = hparams.parse_session_end_info_plugin_data(content).status
    if (folder / "runs" / name / "outcome.json").exists():
        check(status == api_pb2.STATUS_SUCCESS, f"{name} is trained, but has the status {status}")
    elif status is not None:
        history = [event for path in folder.glob("events/*.json") for event in read_json(path)]
        failures = [event["task"] for event in history if event["event"] == "task_failed"]
        check(status == api_pb2.STATUS_FAILURE, f"{name} has no outcome, but the status {status}")
        check({"train": name} in failures, f"{name} has not failed, but says so")


def check_experiment(events, experiment: dict) -> None:
    """Checks which columns the HParams page has, and that its filters admit every run."""
    content = plugin_data(events, ".", hparams.EXPERIMENT_TAG)
    check(content is not None, "the experiment has no summary")
    found = hparams.parse_experiment_plugin_data(content)
    check(found.name == experiment["name"], f"the experiment is called {found.name}")
    metrics = {(info.name.group, info.name.tag) for info in found.metric_infos}
    check(metrics == {("validation", tag) for tag in VALIDATION}, f"the metrics are {metrics}")
    runs = [hyperparameters(experiment, run) for run in experiment["runs"]]
    names = sorted(info.name for info in found.hparam_infos)
    check(names == sorted(runs[0]), f"the hyperparameters are {names}")
    for info in found.hparam_infos:
        values = [run[info.name] for run in runs]
        check(info.differs == (len(set(values)) > 1), f"{info.name}: differs is {info.differs}")
        if info.type == api_pb2.DATA_TYPE_FLOAT64:
            domain = [info.domain_interval.min_value, info.domain_interval.max_value]
            expected = [min(values), max(values)]
        else:
            domain = [plain(value) for value in info.domain_discrete.values]
            expected = sorted(set(values))
        check(domain == expected, f"{info.name} has the domain {domain}, not {expected}")


def main() -> None:
    store, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]) / sys.argv[2]
    spec = read_json(folder / "spec.json")
    experiment = spec["experiment"]
    # As many steps as the worker's sampler makes.
    images = training_images(store / spec["dataset"]["key"])
    steps_per_epoch = images // experiment["batch_size"] + 1
    # 0: all of them, instead of a sample.
    events = EventMultiplexer(size_guidance={event_accumulator.TENSORS: 0})
    events.AddRunsFromDirectory(str(folder / "tensorboard"))
    events.Reload()

    check_experiment(events, experiment)
    known = {"."}
    for run in experiment["runs"]:
        name = run["name"]
        known |= {name, f"{name}/train", f"{name}/validation"}
        epochs = manifests(folder / "runs" / name)
        check_session(events, experiment, run, folder)
        count = check_scalars(events, run, epochs, steps_per_epoch)
        print(f"{name}: {len(epochs)} epochs, {count} scalars")
    others = sorted(set(events.Runs()) - known)
    check(not others, f"TensorBoard shows {others}, which are no runs of the experiment")


if __name__ == "__main__":
    try:
        main()
    except Difference as difference:
        sys.exit(f"the event files are wrong: {difference}")
