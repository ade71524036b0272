#!/usr/bin/env bash
# Builds `worker` with LibTorch, which the program then finds by itself.
#
#   deploy/libtorch.sh                 CPU: downloads LibTorch (900 MB; target/libtorch keeps 490 MB of it)
#   deploy/libtorch.sh --folder DIR    the same with LibTorch in DIR, where it may be already
#   deploy/libtorch.sh --fetch         downloads LibTorch unless it is there, and builds nothing
#   deploy/libtorch.sh --pytorch       CPU or CUDA: the LibTorch of the installed PyTorch, 2.9, 2.10 or 2.11
#                                      (`python3 -c "import torch"`; in a virtual environment, `python`). CUDA
#                                      graphs need CUDA's headers: a toolkit's (CUDA_HOME), those in
#                                      QUARTET_CUDA_INCLUDE, or 2 MB that are downloaded
#   deploy/libtorch.sh --headers DIR   downloads these headers into DIR, and builds nothing
#
# Further arguments go to `cargo build`, such as `--bin bench`. The script needs rustup, a C++ compiler, make,
# and python3 with pip; without --pytorch it needs an x86-64 Linux. LibTorch must stay where it is, because
# the program holds its path.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
from=$PWD
cd "$here/.."

pytorch= fetch= headers=
folder=${CARGO_TARGET_DIR:-target}/libtorch
while (($#)); do
  case $1 in
    --pytorch) pytorch=1 ;;
    --fetch) fetch=1 ;;
    --folder) folder=${2:?--folder needs a folder} && shift ;;
    --headers) headers=$(cd "$from" && realpath -m "${2:?--headers needs a folder}") && shift ;;
    --help) sed -n '2,/^set/s/^# \{0,1\}//p' deploy/libtorch.sh && exit ;;
    *) break ;;
  esac
  shift
done

# Extracts the needed files of the wheels into one folder that torch-sys takes for a LibTorch.
download() {
  if [[ $(uname -sm) != "Linux x86_64" ]]; then
    echo "there is no LibTorch to download for $(uname -sm): pip install torch==2.11.0, then $0 --pytorch" >&2
    return 1
  fi
  local wheels
  wheels=$(mktemp -d)
  trap 'rm -rf "$wheels"' RETURN
  # One wheel for all: its libraries do not depend on the version of Python.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --implementation cp --python-version 3.11 --abi cp311 \
    --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --dest "$wheels" --requirement deploy/libtorch.txt
  rm -rf "$1.part"
  python3 - "$wheels" "$1.part" <<'PYTHON'
import pathlib, shutil, sys, zipfile

wheels, out = map(pathlib.Path, sys.argv[1:])
LIBRARIES = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.12", "libcupti.so.12"}
for wheel in wheels.glob("*.whl"):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        path = pathlib.PurePath(name)
        if path.name in LIBRARIES:
            target = out / "lib" / path.name
        elif name.startswith("torch/include/") and not name.endswith("/"):
            target = out / path.relative_to("torch")
        else:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as source, open(target, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
missing = LIBRARIES - {path.name for path in (out / "lib").iterdir()}
assert not missing, f"the wheels lack {missing}"
# The names that torch-sys links with.
(out / "lib" / "libtorch.so").symlink_to("libtorch_cpu.so")
(out / "lib" / "libgomp.so").symlink_to("libgomp.so.1")
(out / "build-version").write_text("2.9.0\n")
PYTHON
  rm -rf "$1"
  mv "$1.part" "$1"
}

# CUDA's headers out of NVIDIA's wheels, unless they are there.
cuda_headers() {
  local wheels
  [[ ! -e $1/crt/host_config.h || ! -e $1/cuda_runtime_api.h ]] || return 0
  if [[ -e $1 ]]; then
    echo "$1 is there, but has no CUDA headers: name a folder that is not there yet" >&2
    return 1
  fi
  wheels=$(mktemp -d)
  trap 'rm -rf "$wheels"' RETURN
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
    --dest "$wheels" --requirement deploy/cuda-headers.txt || return 1
  rm -rf "$1.part"
  python3 - "$wheels" "$1.part" <<'PYTHON' || return 1
import pathlib, sys, zipfile

wheels, out = map(pathlib.Path, sys.argv[1:])
for wheel in wheels.glob("*.whl"):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        _, found, path = name.partition("/include/")
        if found and path and not path.endswith("/"):
            target = out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
PYTHON
  mv "$1.part" "$1"
}

if [[ -n $headers ]]; then
  cuda_headers "$headers" || exit 1
  exit
fi

if [[ -n $pytorch ]]; then
  # torch-sys asks the same.
  python=python3
  [[ -z ${VIRTUAL_ENV:-} ]] || python=python
  ask='import torch; print(torch.__version__, "with CUDA", torch.version.cuda, "in", torch.__path__[0])'
  if ! version=$("$python" -c "$ask"); then
    echo "$python has no PyTorch that works: pip install torch==2.11.0" >&2
    exit 1
  fi
  case $version in
    2.9.* | 2.10.* | 2.11.*) echo "LibTorch of PyTorch ${version/with CUDA None/for CPUs}" >&2 ;;
    *)
      echo "PyTorch $version is not supported: take 2.9, 2.10 or 2.11 (pip install torch==2.11.0)" >&2
      exit 1
      ;;
  esac
  case $version in
    *"with CUDA None"*) ;;
    *)
      toolkit=${CUDA_HOME:-${CUDA_PATH:-/usr/local/cuda}}/include
      if [[ -z ${QUARTET_CUDA_INCLUDE:-} && ! -e $toolkit/crt/host_config.h ]]; then
        headers=$(realpath -m "${CARGO_TARGET_DIR:-target}/cuda-headers")
        if cuda_headers "$headers"; then
          export QUARTET_CUDA_INCLUDE=$headers
        else
          echo "CUDA's headers cannot be had: no CUDA graphs and no kernels of our own: GPUs are slower" >&2
        fi
      fi
      ;;
  esac
  # torch-sys knows of one version alone. It, and the shim, are built anew whenever this changes.
  export LIBTORCH_USE_PYTORCH=1 LIBTORCH_BYPASS_VERSION_CHECK=$version
  unset LIBTORCH
else
  mkdir -p "$(dirname "$folder")"
  folder=$(realpath -m "$folder")
  [[ -e $folder/build-version ]] || download "$folder"
  export LIBTORCH=$folder
  unset LIBTORCH_USE_PYTORCH
fi
[[ -z $fetch ]] || exit 0
cargo build --release --locked --package quartet-worker --features tch "$@"
