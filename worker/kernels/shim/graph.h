// CUDA graphs: what a stream is told once, to be done again and again by one launch.

#pragma once

#include <cstdint>
#include <utility>

namespace graph {

struct Graph;

// Graphs that have their memory in common: no two of them may be replayed at the same time.
using Family = std::pair<uint64_t, uint64_t>;

// Whether this build has them.
bool available();

Family family();
// What the current thread has LibTorch do on GPU `gpu` is recorded from now on, and not done.
Graph *begin(int64_t gpu, Family family);
// Ends the recording; the graph can be replayed if it does not throw.
void end(Graph *graph);
// Does what was recorded, on the current stream.
void replay(Graph *graph);
// Also ends a recording that is not to be used.
void destroy(Graph *graph) noexcept;
// The most bytes of tensors that there have been on GPU `gpu` since the last call.
int64_t peak_bytes(int64_t gpu);
// Gives the memory that LibTorch keeps of all GPUs back to the system, but for that of tensors and graphs.
// How many bytes it still has of GPU `gpu`.
int64_t release_memory(int64_t gpu);

} // namespace graph
