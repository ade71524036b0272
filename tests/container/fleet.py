"""Does with an image what deploy/kubernetes.yaml says, without a cluster; see tests/container/run."""

import argparse
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
MANIFEST = HERE.parent.parent / "deploy" / "kubernetes.yaml"
EXPERIMENT = HERE.parent / "experiments" / "tiny.toml"
ADDRESS = "127.0.0.1:50051"


class Fleet:
    """The image's programs, as the manifest's containers."""

    def __init__(self, options):
        self.options = options
        self.work = options.work / "fleet"
        shutil.rmtree(self.work, ignore_errors=True)
        documents = list(yaml.safe_load_all(MANIFEST.read_text()))
        self.pods = {
            document["metadata"]["name"]: document["spec"]["template"]["spec"]
            for document in documents
            if document["kind"] == "Deployment"
        }
        self.user = self.pods["quartet-worker"]["securityContext"]["runAsUser"]
        self.running = []

    def folder(self, name):
        """An empty folder of the image's user."""
        folder = self.work / name
        folder.mkdir(parents=True)
        os.chown(folder, self.user, self.user)
        return folder

    def command(self, command, volumes, environment=()):
        """The command line that runs a command in the image."""
        line = [*self.options.run]
        for volume in volumes:
            line += ["--volume", volume]
        for variable in environment:
            line += ["--env", variable]
        return [*line, self.options.container, "--", *command]

    def call(self, command, *volumes):
        """Runs a command to its end, which must be a good one; returns what it has printed."""
        done = subprocess.run(self.command(command, volumes), stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}")
        return done.stdout

    def start(self, name, log, volumes, without=()):
        """Starts the container of a pod with what the manifest says, without these arguments."""
        [container] = self.pods[name]["containers"]
        command = [part for part in container["command"] if part not in without]
        mounts = {mount["mountPath"]: mount.get("readOnly") for mount in container["volumeMounts"]}
        assert mounts.keys() == volumes.keys(), (mounts, volumes)
        volumes = [f"{volumes[path]}:{path}:{'ro' if mounts[path] else 'rw'}" for path in mounts]
        # The service's name, as the cluster's DNS would have it.
        environment = [f"{one['name']}={one['value']}" for one in container["env"]]
        environment = [variable.replace("quartet:", "127.0.0.1:") for variable in environment]
        with open(self.work / log, "w", encoding="utf-8") as file:
            # In a session of its own, so that it can be found.
            process = subprocess.Popen(
                self.command(command, volumes, environment), stdout=file, stderr=file, start_new_session=True
            )
        self.running.append(process)
        return process

    def terminate(self, process, name, status):
        """Takes a pod away: SIGTERM to its program, which must end in time, and so."""
        [container] = self.pods[name]["containers"]
        program = container["command"][0]
        pids = subprocess.check_output(["ps", "--sid", str(process.pid), "-o", "pid=,comm="], text=True)
        [pid] = [line.split()[0] for line in pids.splitlines() if line.split()[1] == program]
        os.kill(int(pid), signal.SIGTERM)
        found = process.wait(self.pods[name]["terminationGracePeriodSeconds"])
        assert found == status, f"{program} ended with {found} instead of {status}"

    def probe(self, name, probe, process):
        """Waits until a probe of a container succeeds."""
        [container] = self.pods[name]["containers"]
        get = container[probe]["httpGet"]
        url = f"{get['scheme'].lower()}://127.0.0.1:{get['port']}{get['path']}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                # Kubernetes does not know the fleet's certificate either.
                with urllib.request.urlopen(url, context=ssl._create_unverified_context(), timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        sys.exit(f"{url} does not answer")

    def secret(self, name, files):
        """A secret's volume: files of root's that the pod's group can read."""
        folder = self.work / name
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
            copy = folder / Path(file).name
            os.chown(copy, 0, self.user)
            copy.chmod(0o440)
        return folder

    def stop(self):
        """Ends what still runs."""
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def main():
    """Keys, a coordinator, workers, an experiment, and pods that go."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--container", required=True)
    parser.add_argument("run", nargs="+", help="the command that runs another one in a container")
    fleet = Fleet(parser.parse_args())
    try:
        home, runs, caches = fleet.folder("home"), fleet.folder("runs"), fleet.folder("cache")
        keys, at_home = home / "keys", f"{home}:/admin:rw"
        print(fleet.call(["id"], at_home).strip())
        fleet.call(["coordinator", "keys", "/admin/keys"], at_home)
        add = ["add", "pods", "--role", "worker"]
        fleet.call(["coordinator", "keys", "--tls", "/admin/keys", *add], at_home)
        names = ["ca.pem", "coordinator.pem", "coordinator.key"]
        of_coordinator = fleet.secret("secret-coordinator", [keys / name for name in names])
        of_worker = fleet.secret("secret-worker", sorted((keys / "pods").iterdir()))

        def coordinator(log):
            volumes = {"/keys": of_coordinator, "/runs": runs}
            process = fleet.start("quartet-coordinator", log, volumes)
            fleet.probe("quartet-coordinator", "livenessProbe", process)
            fleet.probe("quartet-coordinator", "readinessProbe", process)
            return process

        def worker(log):
            # As the manifest says of CPUs.
            volumes = {"/keys": of_worker, "/var/cache/quartet": caches}
            return fleet.start("quartet-worker", log, volumes, without=("--gpu", "0"))

        def status(*arguments):
            line = ["status", "--coordinator", ADDRESS, "--tls", "/admin/keys", *arguments]
            return fleet.call(line, at_home, f"{EXPERIMENT.parent}:/experiments:ro")

        def snapshot(experiment):
            return json.loads(status("--name", experiment, "--json"))

        leader = coordinator("coordinator-1.log")
        workers = [worker(f"worker-{number}.log") for number in (1, 2)]
        print(status("submit", "/experiments/tiny.toml", "--name", "first"), end="")
        deadline = time.monotonic() + 60
        while sum(1 for one in snapshot("first")["workers"] if one["task"]) < 2:
            assert time.monotonic() < deadline, "not both workers have something to do"
            time.sleep(0.2)
        fleet.terminate(workers[0], "quartet-worker", 0)
        print("a pod was taken away")
        print(status("--name", "first", "--follow").splitlines()[-1])
        fleet.terminate(leader, "quartet-coordinator", 130)
        leader = coordinator("coordinator-2.log")
        print(status("submit", "/experiments/tiny.toml", "--name", "second"), end="")
        print(status("--name", "second", "--follow").splitlines()[-1])
        fleet.terminate(workers[1], "quartet-worker", 0)
        fleet.terminate(leader, "quartet-coordinator", 130)
        for name in ("first", "second"):
            report = runs / name / "report.html"
            assert report.stat().st_uid == fleet.user, report
        log = (fleet.work / "worker-2.log").read_text()
        assert "LibTorch" in log, log
        print("both experiments have finished")
    finally:
        fleet.stop()


main()
