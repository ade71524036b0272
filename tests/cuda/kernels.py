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


def compiled(nvrtc, source, architecture, bfloat16):
    """The compiler's report."""
    program = ctypes.c_void_p()
    name = b"kernels.cu"
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None) == 0
    options = [f"--gpu-architecture={architecture}", f"-DBF16={bfloat16}", "--std=c++17"]
    options += ["--ptxas-options=-v"]
    encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), encoded)
    report = text_of(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
    if failed:
        sys.exit(f"{architecture}, BF16={bfloat16}:\n{report}")
    return report


def main():
    """Compiles for all."""
    nvrtc = ctypes.CDLL("libnvrtc.so.13")
    source = Path(sys.argv[1]).read_bytes()
    kernel = r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers"
    for architecture in ARCHITECTURES:
        for bfloat16 in [0, 1]:
            found = re.findall(kernel, compiled(nvrtc, source, architecture, bfloat16), re.DOTALL)
            assert found, "the compiler's report has another form"
            needs = [f"{name} {registers}" + (f" ({spills} B spilled)" if spills != "0" else "")
                     for name, spills, registers in sorted(found)]
            print(f"{architecture} {'bfloat16' if bfloat16 else 'float32'}: registers of {', '.join(needs)}")


if __name__ == "__main__":
    main()
