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

# What asks for CUDA's functions.
ASKING = ["torch_cuda", "c10_cuda", "torch_nvshmem", "caffe2_nvrtc", "torch_cpu"]

# Each library's sources, and how names begin that are asked for without saying of which library.
LIBRARIES = {
    "libcudart.so.13": (["runtime"], None),
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
    return subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True).stdout


def names(*words):
    """The last word of each line."""
    return {line.split()[-1] for line in command(*words).splitlines() if line}


def substitute(soname, name):
    """A function in place of one that is not emulated."""
    if soname == "libcublas.so.13":
        return (f'int {name}(void *handle) {{ emulator_enqueue(emulator_stream_of(handle), "{name}", nullptr, '
                "nullptr, 0); return 0; }\n")
    return f'int {name}() {{ std::fprintf(stderr, "emulator: no {name}\\n"); std::abort(); }}\n'


def main():
    """Builds everything."""
    libtorch, headers, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    found = [libtorch / "lib" / f"lib{name}.so" for name in ASKING]
    asked = set().union(*(names("nm", "-D", "--undefined-only", "--with-symbol-versions", path) for path in found))
    objects = {}
    for source in ["runtime", "driver", "math", "kernels"]:
        objects[source] = out / f"{source}.o"
        # images.cu is to round as written.
        command("c++", *FLAGS, "-ffp-contract=off", "-I", SHIM, "-isystem", headers, "-c", HERE / f"{source}.cpp",
                "-o", objects[source])
    for soname, (sources, prefix) in LIBRARIES.items():
        version = VERSIONS.get(soname, soname)
        wanted = {symbol.split("@")[0] for symbol in asked if symbol.endswith(f"@{version}")}
        if prefix:
            wanted |= {symbol for symbol in asked if "@" not in symbol and re.match(prefix, symbol)}
        parts = [objects[source] for source in sources]
        defined = names("nm", "--defined-only", *parts) if parts else set()
        rest = out / f"{soname}.cpp"
        lines = "".join(substitute(soname, name) for name in sorted(wanted - defined))
        rest.write_text('#include <cstdio>\n#include <cstdlib>\n#include "emulator.h"\nextern "C" {\n' + lines + "}\n")
        script = out / f"{soname}.map"
        script.write_text(f"{version} {{ global: *; }};\n")
        others = [] if soname == "libcudart.so.13" else [out / "libcudart.so.13"]
        command("c++", *FLAGS, "-shared", rest, *parts, *others, "-ldl", f"-Wl,-soname,{soname}",
                f"-Wl,--version-script,{script}", "-o", out / soname)
    include = libtorch / "include"
    command("c++", *FLAGS, "-shared", "-isystem", include, "-isystem", include / "torch/csrc/api/include", "-isystem",
            headers, HERE / "operations.cpp", "-L", libtorch / "lib", out / "libcudart.so.13",
            "-Wl,--allow-shlib-undefined", "-ltorch_cuda", "-ltorch_cpu", "-lc10_cuda", "-lc10", "-o",
            out / "operations.so")


if __name__ == "__main__":
    main()
