"""Builds the emulator for a LibTorch: `build.py LIBTORCH HEADERS OUT`.

OUT gets a library for each of CUDA's that LibTorch 2.11 loads, with what is emulated and, for everything
else that LibTorch names, a function that says so and ends the program; and `operations.so` for LD_PRELOAD.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHIM = HERE.parents[2] / "worker" / "kernels" / "shim"
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I", str(HERE)]

# What asks for CUDA's functions; the last in a Python's PyTorch alone.
ASKING = ["torch_cuda", "c10_cuda", "torch_nvshmem", "caffe2_nvrtc", "torch_cpu", "torch_python"]

# Each library's sources, and how names begin that are asked for without saying of which library.
LIBRARIES = {
    "libcudart.so.13": (["runtime", "recording", "memory"], None),
    "libcuda.so.1": (["driver", "kernels"], r"cu[A-EG-Z]|cuFunc"),
    "libcudnn.so.9": (["math"], None),
    "libcublas.so.13": (["math"], None),
    "libcublasLt.so.13": (["math"], None),
    "libnvrtc.so.13": (["driver", "kernels"], None),
    "libcusparse.so.12": ([], None),
    "libcufft.so.12": ([], None),
    "libcurand.so.10": ([], None),
    "libcufile.so.0": ([], r"cuFile"),
    "libcusparseLt.so.0": ([], r"cusparseLt"),
    "libnccl.so.2": ([], r"nccl[A-Z]"),
    "libnvshmem_host.so.3": ([], r"nvshmem"),
    "libcupti.so.13": ([], r"cupti"),
}
# Under which their functions are asked for, where that is not the library's own name.
VERSIONS = {"libnvshmem_host.so.3": "NVSHMEM"}


def command(*words):
    """What a command prints."""
    words = [str(word) for word in words]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def names(*words):
    """The last word of each line."""
    return {line.split()[-1] for line in command(*words).splitlines() if line}


def substitute(soname, name):
    """A function in place of one that is not emulated."""
    if soname == "libcublas.so.13":
        return f'int {name}(void *handle) {{ return counted(handle, "{name}"); }}\n'
    return f'int {name}() {{ missing("{name}"); }}\n'


# What substitutes call.
COMMON = """#include <cstdio>
#include <cstdlib>
#include "emulator.h"
namespace {
[[maybe_unused]] int counted(void *handle, const char *name) {
  emulator_enqueue(emulator_stream_of(handle), name, nullptr, nullptr, 0);
  return 0;
}
[[noreturn, maybe_unused]] void missing(const char *name) {
  std::fprintf(stderr, "emulator: no %s\\n", name);
  std::abort();
}
} // namespace
extern "C" {
"""


def main():
    """Builds everything."""
    libtorch, headers, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    found = [path for name in ASKING if (path := libtorch / "lib" / f"lib{name}.so").exists()]
    undefined = ["nm", "-D", "--undefined-only", "--with-symbol-versions"]
    asked = set().union(*(names(*undefined, path) for path in found))
    objects = {}
    for source in ["runtime", "recording", "memory", "driver", "math", "kernels"]:
        objects[source] = out / f"{source}.o"
        # images.cu is to round as written.
        flags = [*FLAGS, "-ffp-contract=off", "-I", SHIM, "-isystem", headers]
        command("c++", *flags, "-c", HERE / f"{source}.cpp", "-o", objects[source])
    for soname, (sources, prefix) in LIBRARIES.items():
        version = VERSIONS.get(soname, soname)
        wanted = {symbol.split("@")[0] for symbol in asked if symbol.endswith(f"@{version}")}
        if prefix:
            wanted |= {symbol for symbol in asked if "@" not in symbol and re.match(prefix, symbol)}
        parts = [objects[source] for source in sources]
        defined = names("nm", "--defined-only", *parts) if parts else set()
        rest = out / f"{soname}.cpp"
        lines = "".join(substitute(soname, name) for name in sorted(wanted - defined))
        rest.write_text(COMMON + lines + "}\n")
        script = out / f"{soname}.map"
        script.write_text(f"{version} {{ global: *; }};\n")
        others = [] if soname == "libcudart.so.13" else [out / "libcudart.so.13"]
        command("c++", *FLAGS, "-shared", rest, *parts, *others, "-ldl", f"-Wl,-soname,{soname}",
                f"-Wl,--version-script,{script}", "-o", out / soname)
    include = libtorch / "include"
    flags = [*FLAGS, "-shared", "-Wl,--allow-shlib-undefined", "-L", libtorch / "lib"]
    for path in [include, include / "torch/csrc/api/include", headers]:
        flags += ["-isystem", path]
    libraries = [out / "libcudart.so.13", "-ltorch_cuda", "-ltorch_cpu", "-lc10_cuda", "-lc10"]
    command("c++", *flags, HERE / "operations.cpp", *libraries, "-o", out / "operations.so")


if __name__ == "__main__":
    main()
