"""Fetches what is in PyTorch's wheels: `wheels.py libtorch|nvrtc VERSION OUT`, unless OUT has it."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePath

LIBTORCH = ["torch", "torch_cuda", "torch_cpu", "torch_nvshmem", "c10_cuda", "c10", "caffe2_nvrtc"]
LIBRARIES = [f"lib{name}.so" for name in LIBTORCH] + ["libgomp.so.1"]


def is_wanted(name):
    """Whether a file of LibTorch's wheel is."""
    path = PurePath(name)
    return path.parts[0] == "torch" and (path.name in LIBRARIES or path.parts[1] == "include")


def main():
    """Fetches one of them."""
    what, version, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if out.exists():
        return
    package, root = {"libtorch": ("torch", "torch"), "nvrtc": ("nvidia-cuda-nvrtc", ".")}[what]
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=part.parent) as wheels:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
        options += ["--implementation", "cp", "--python-version", "3.12", "--abi", "cp312", "--abi", "none"]
        for platform in ["manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux_2_12_x86_64"]:
            options += ["--platform", platform]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", wheels]
        subprocess.run([*command, f"{package}=={version}"], check=True)
        [wheel] = Path(wheels).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith("/") or (what == "libtorch" and not is_wanted(name)):
                    continue
                target = part / PurePath(name).relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    part.rename(out)


if __name__ == "__main__":
    main()
