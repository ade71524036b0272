#include "observe.h"

#include <ATen/record_function.h>
#include <map>

namespace observe {
namespace {

struct Observation {
  std::map<std::string, int64_t> counts;
  at::CallbackHandle handle = at::INVALID_CALLBACK_HANDLE;
};

Observation &mine() {
  thread_local Observation observation;
  return observation;
}

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction &operation) {
  ++mine().counts[operation.name()];
  return nullptr;
}

} // namespace

void begin() {
  Observation &observation = mine();
  TORCH_CHECK(observation.handle == at::INVALID_CALLBACK_HANDLE, "this thread is observed already");
  observation.counts.clear();
  auto callback = at::RecordFunctionCallback(count).scopes({at::RecordScope::FUNCTION});
  observation.handle = at::addThreadLocalCallback(callback);
}

std::string end() {
  Observation &observation = mine();
  if (observation.handle != at::INVALID_CALLBACK_HANDLE) {
    at::removeCallback(observation.handle);
    observation.handle = at::INVALID_CALLBACK_HANDLE;
  }
  std::string lines;
  for (const auto &[name, times] : observation.counts) {
    lines += name + ' ' + std::to_string(times) + '\n';
  }
  return lines;
}

} // namespace observe
