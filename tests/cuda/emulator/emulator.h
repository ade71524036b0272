// What the libraries of the emulator have in common.

#pragma once

#include <cstddef>

extern "C" {

// Does `work` on a stream, with a copy of the `size` bytes at `of`, or records it. Without `work` there is
// nothing to do but to count.
void emulator_enqueue(void *stream, const char *name, void (*work)(void *), void *of, size_t size);

// Of cuBLAS' handles.
void *emulator_stream_of(void *handle);
}
