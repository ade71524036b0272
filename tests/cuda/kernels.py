"""Has NVRTC compile CUDA kernels for several GPUs, and prints what each needs: no GPU needed."""

import ctypes
import re
import sys
from pathlib import Path

ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]


def text_of(program, size, read):
    """What NVRTC has to say."""
    length = ctypes.c_size_t()
    size(program, ctypes.byref(length))
    text = ctypes.create_string_buffer(length.value)
    read(program, text)
    return text.value.decode()


def compiled(nvrtc, path, architecture, definitions):
    """The compiler's report."""
    program = ctypes.c_void_p()
    source, name = path.read_bytes(), path.name.encode()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None) == 0
    options = [f"--gpu-architecture={architecture}", "--std=c++17", "--ptxas-options=-v", *definitions]
    encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), encoded)
    report = text_of(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
    if failed:
        sys.exit(f"{path.name}, {architecture}, {definitions}:\n{report}")
    return report


def main():
    """Compiles for all."""
    nvrtc = ctypes.CDLL("libnvrtc.so.13")
    kernel = r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers"
    for path in map(Path, sys.argv[1:]):
        # Some are of a type.
        types = ["-DBF16=0", "-DBF16=1"] if b"BF16" in path.read_bytes() else []
        # Only bfloat16 needs 8.0.
        for architecture in ARCHITECTURES if types else ["sm_75", *ARCHITECTURES]:
            for definitions in [[definition] for definition in types] or [[]]:
                found = re.findall(kernel, compiled(nvrtc, path, architecture, definitions), re.DOTALL)
                assert found, "the compiler's report has another form"
                needs = [f"{name} {registers}" + (f" ({spills} B spilled)" if spills != "0" else "")
                         for name, spills, registers in sorted(found)]
                print(path.name, architecture, *definitions, "registers of", ", ".join(needs))


if __name__ == "__main__":
    main()
