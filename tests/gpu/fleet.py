"""Experiments, and the fleets that do them."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

STARTED = time.monotonic()


def say(text):
    """A line with the time."""
    print(f"== {time.monotonic() - STARTED:.0f} s: {text}", flush=True)


def experiment(job, name, lines, runs):
    """A file that says what to train."""
    path = job.work / f"{name}.toml"
    path.write_text("\n".join([f'name = "{name}"', *lines, *runs]) + "\n")
    return path


class Fleet:
    """A coordinator, and workers with these variables besides."""

    def __init__(self, job, store, arguments, workers, environment=None):
        self.job, self.environment = job, {**os.environ, **(environment or {})}
        self.log = open(job.work / f"{store.name}.log", "a", encoding="utf-8")
        command = [job.program("coordinator"), "--workers", str(workers), "--listen", "127.0.0.1:0"]
        command += ["--store", str(store), *arguments]
        self.coordinator = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.workers = []
        try:
            self.address = self.wait_for(r"127\.0\.0\.1:(?!0\b)\d+", 120)
            self.workers += [self.start() for _ in range(workers)]
        except BaseException:
            self.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """Leaves nothing behind."""
        for process in [*self.workers, self.coordinator]:
            process.kill()
            process.wait()
        self.log.close()

    def text(self):
        """The log so far."""
        return Path(self.log.name).read_text(encoding="utf-8")

    def wait_for(self, pattern, seconds):
        """What the log says."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(pattern, self.text()):
                return found.group(0)
            if self.coordinator.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"no {pattern} in {self.text()[-1500:]}")

    def start(self):
        """Another worker."""
        command = [self.job.program("worker"), "--coordinator", self.address, *self.job.device]
        command += ["--cache-dir", str(self.job.work / "cache")]
        output = {"stdout": self.log, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, env=self.environment, **output)

    def end(self, seconds):
        """Waits for the end; the coordinator's status, or None if time is over."""
        try:
            return self.coordinator.wait(seconds)
        except subprocess.TimeoutExpired:
            self.coordinator.send_signal(signal.SIGINT)
            return None
