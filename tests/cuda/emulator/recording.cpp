// Streams, events and graphs.

#include "emulator.h"
#include "runtime.h"

#include <algorithm>
#include <cstdio>

namespace runtime {

std::recursive_mutex mutex;

namespace {

thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
// Its address is the thread's.
thread_local char here;

CUstream_st legacy, per_thread;
std::set<std::shared_ptr<CUgraph_st>> captures;
unsigned long long ids = 1;

// Waits for a stream, or for all of them.
cudaError_t wait_for(CUstream_st *stream, const char *what) {
  for (const auto &capture : captures) {
    // By whichever thread.
    if (!stream || stream->capture == capture) {
      capture->invalid = true;
      return fail(cudaErrorStreamCaptureUnsupported, what);
    }
  }
  return cudaSuccess;
}

} // namespace

CUstream_st *stream_of(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) {
    return &legacy;
  }
  return stream == cudaStreamPerThread ? &per_thread : stream;
}

bool unsafe(const char *what) {
  if (mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  for (const auto &capture : captures) {
    const bool mine = capture->thread == &here;
    const bool forbidden =
        (mine && capture->mode != cudaStreamCaptureModeRelaxed) ||
        (!mine && mode == cudaStreamCaptureModeGlobal && capture->mode == cudaStreamCaptureModeGlobal);
    if (forbidden) {
      capture->invalid = true;
      fail(cudaErrorStreamCaptureUnsupported, what);
      return true;
    }
  }
  return false;
}

cudaError_t enqueue(cudaStream_t on, std::string name, std::function<void()> work) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  if (stream->capture) {
    if (stream->capture->invalid) {
      return fail(cudaErrorStreamCaptureInvalidated, name.c_str());
    }
    ++stream->sequence;
    stream->capture->nodes.push_back({std::move(name), std::move(work)});
    return cudaSuccess;
  }
  for (const auto &capture : captures) {
    if (capture->thread == &here) {
      // CUDA would do it: a graph that lacks it is not what was meant.
      std::fprintf(stderr, "emulator: %s is done beside a recording that this thread makes\n", name.c_str());
      capture->invalid = true;
    }
  }
  if (work) {
    work();
  }
  return cudaSuccess;
}

} // namespace runtime

using namespace runtime;

extern "C" {

// For the other libraries.
void emulator_enqueue(void *stream, const char *name, void (*work)(void *), void *of, size_t size) {
  std::vector<char> kept(static_cast<char *>(of), static_cast<char *>(of) + size);
  std::function<void()> body;
  if (work) {
    body = [work, kept]() mutable { work(kept.data()); };
  }
  enqueue(static_cast<cudaStream_t>(stream), name, std::move(body));
}

// Streams and events.
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(mutex);
  return wait_for(nullptr, "cudaDeviceSynchronize");
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int) {
  return cudaStreamCreate(stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t, int *priority) {
  *priority = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Lock lock(mutex);
  if (unsafe("cudaStreamQuery")) {
    return cudaErrorStreamCaptureUnsupported;
  }
  return wait_for(stream_of(stream), "cudaStreamQuery");
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(mutex);
  // Of another stream, too: a call that is not for recordings.
  if (unsafe("cudaStreamSynchronize")) {
    return cudaErrorStreamCaptureUnsupported;
  }
  return wait_for(stream_of(stream), "cudaStreamSynchronize");
}
cudaError_t cudaStreamWaitEvent(cudaStream_t on, cudaEvent_t event, unsigned) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  if (event->capture && event->capture->active) {
    if (stream->capture && stream->capture != event->capture) {
      return fail(cudaErrorStreamCaptureMerge, "cudaStreamWaitEvent");
    }
    if (!stream->capture) {
      stream->capture = event->capture;
      stream->capture->others.insert(stream);
      stream->sequence = 1, stream->joined = 0;
    }
    event->stream->joined = std::max(event->stream->joined, event->sequence);
  } else if (stream->capture && event->stream) {
    stream->capture->invalid = true;
    return fail(cudaErrorStreamCaptureIsolation, "cudaStreamWaitEvent");
  }
  return cudaSuccess;
}
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data, unsigned) {
  return enqueue(stream, "a callback", [=] { callback(stream, cudaSuccess, data); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t on, unsigned) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  event->stream = stream;
  event->capture = stream->capture;
  event->sequence = stream->sequence;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t on) {
  return cudaEventRecordWithFlags(event, on, 0);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(mutex);
  if (unsafe("cudaEventQuery")) {
    return cudaErrorStreamCaptureUnsupported;
  }
  return event->capture && event->capture->active ? fail(cudaErrorCapturedEvent, "cudaEventQuery")
                                                  : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(mutex);
  if (unsafe("cudaEventSynchronize")) {
    return cudaErrorStreamCaptureUnsupported;
  }
  return event->capture && event->capture->active ? fail(cudaErrorCapturedEvent, "cudaEventSynchronize")
                                                  : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}

// Graphs.
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *to) {
  std::swap(*to, mode);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t on, cudaStreamCaptureStatus *status) {
  const Lock lock(mutex);
  const auto *stream = stream_of(on);
  *status = !stream->capture           ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t on, cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **nodes,
                                     const cudaGraphEdgeData **edges, size_t *count) {
  cudaStreamIsCapturing(on, status);
  const Lock lock(mutex);
  const auto *stream = stream_of(on);
  if (stream->capture) {
    if (id)
      *id = stream->capture->id;
    if (graph)
      *graph = stream->capture.get();
  }
  if (nodes)
    *nodes = nullptr;
  if (edges)
    *edges = nullptr;
  if (count)
    *count = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t on, cudaStreamCaptureMode how) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  if (stream == &legacy) {
    return fail(cudaErrorStreamCaptureUnsupported, "cudaStreamBeginCapture");
  }
  if (stream->capture) {
    return fail(cudaErrorIllegalState, "cudaStreamBeginCapture");
  }
  if (said("EMULATOR_NO_CAPTURE", 0)) {
    return fail(cudaErrorStreamCaptureUnsupported, "cudaStreamBeginCapture");
  }
  auto graph = std::make_shared<CUgraph_st>();
  graph->mode = how, graph->origin = stream, graph->thread = &here, graph->id = ids++;
  stream->capture = graph;
  stream->sequence = stream->joined = 0;
  captures.insert(graph);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t on, cudaGraph_t *out) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  *out = nullptr;
  const auto graph = stream->capture;
  if (!graph || graph->origin != stream) {
    return fail(cudaErrorIllegalState, "cudaStreamEndCapture");
  }
  graph->active = false;
  captures.erase(graph);
  stream->capture.reset();
  bool joined = true;
  for (CUstream_st *other : graph->others) {
    joined = joined && other->joined == other->sequence;
    other->capture.reset();
  }
  if (graph->thread != &here && graph->mode != cudaStreamCaptureModeRelaxed) {
    return fail(cudaErrorStreamCaptureWrongThread, "cudaStreamEndCapture");
  }
  if (graph->invalid) {
    return fail(cudaErrorStreamCaptureInvalidated, "cudaStreamEndCapture");
  }
  if (!joined) {
    return fail(cudaErrorStreamCaptureUnjoined, "cudaStreamEndCapture");
  }
  *out = new CUgraph_st(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
  *out = new CUgraphExec_st{graph->nodes};
  static int number = 0;
  if (const char *folder = std::getenv("EMULATOR_GRAPHS")) {
    const Lock lock(mutex);
    const std::string path = std::string(folder) + "/" + std::to_string(number++) + ".txt";
    if (FILE *file = std::fopen(path.c_str(), "w")) {
      for (const auto &node : graph->nodes) {
        std::fprintf(file, "%s\n", node.name.c_str());
      }
      std::fclose(file);
    }
  }
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  return enqueue(stream, "a graph of " + std::to_string(graph->nodes.size()) + " nodes", [=] {
    for (const auto &node : graph->nodes) {
      if (node.work) {
        node.work();
      }
    }
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *, size_t *count) {
  *count = graph->nodes.size();
  return cudaSuccess;
}
} // extern "C"
