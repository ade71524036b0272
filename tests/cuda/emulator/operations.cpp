// LibTorch's operations on GPUs, computed on the CPU: their tensors' memory is the host's. Loaded before the
// program (LD_PRELOAD) it takes the place of what LibTorch has for CUDA. While a graph is recorded nothing is
// done but to find the results' shapes; a replay computes from what then lies at the same addresses.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>

#include "emulator.h"

namespace at::native {
TORCH_API at::Tensor &copy_(at::Tensor &self, const at::Tensor &src, bool non_blocking);
}

extern "C" {
char emulator_computes;
}

namespace {

using at::Tensor;
using c10::IValue;
using Stack = torch::jit::Stack;

// The same memory as a tensor of the CPU.
Tensor on_host(const Tensor &x) {
  if (!x.defined() || !x.is_cuda()) {
    return x;
  }
  return at::from_blob(x.data_ptr(), x.sizes(), x.strides(), at::TensorOptions().dtype(x.scalar_type()));
}

Tensor own_copy(const Tensor &x) {
  if (!x.defined()) {
    return x;
  }
  Tensor copy = at::empty_strided(x.sizes(), x.strides(), x.options());
  copy.copy_(x);
  return copy;
}

// Each tensor of a value as `change` has it.
template <typename Change> IValue changed(const IValue &value, Change &&change) {
  if (value.isTensor()) {
    return change(value.toTensor());
  }
  if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor &x : value.toTensorVector()) {
      list.push_back(change(x));
    }
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const std::optional<Tensor> x : value.toOptionalTensorList()) {
      list.push_back(x ? std::optional<Tensor>(change(*x)) : std::nullopt);
    }
    return list;
  }
  if (value.isDevice()) {
    return c10::Device(c10::kCPU);
  }
  return value;
}

struct Call {
  c10::OperatorHandle op;
  std::vector<IValue> arguments;
  // Where the results go; nothing for those that are arguments.
  std::vector<IValue> results;
};

void run(const Call &call, Stack &stack) {
  stack = call.arguments;
  // As on a CPU, whose operations the dispatcher finds by the arguments.
  c10::DispatchKeySet keys = c10::DispatchKeySet(c10::DispatchKey::CPU);
  call.op.redispatchBoxed(keys, &stack);
}

void give(const IValue &to, const IValue &from) {
  if (to.isTensor() && to.toTensor().defined()) {
    on_host(to.toTensor()).copy_(from.toTensor());
  } else if (to.isTensorList()) {
    const auto targets = to.toTensorVector(), sources = from.toTensorVector();
    for (size_t i = 0; i < targets.size(); ++i) {
      on_host(targets[i]).copy_(sources[i]);
    }
  }
}

void again(void *of) {
  const Call &call = **static_cast<Call **>(of);
  at::NoGradGuard no_grad;
  Stack stack;
  run(call, stack);
  for (size_t i = 0; i < call.results.size(); ++i) {
    give(call.results[i], stack[i]);
  }
}

// The GPU of the first tensor that is on one, or the current one.
c10::Device gpu_of(const std::vector<IValue> &values) {
  std::optional<c10::Device> found;
  const auto look = [&](const Tensor &x) {
    if (!found && x.defined() && x.is_cuda()) {
      found = x.device();
    }
    return x;
  };
  for (const auto &value : values) {
    changed(value, look);
  }
  return found.value_or(c10::Device(c10::kCUDA, c10::cuda::current_device()));
}

bool is_written(const c10::Argument &argument) {
  return argument.alias_info() && argument.alias_info()->isWrite();
}

// Whether a GPU waits for the host in the middle of it, which needs to know a size.
bool waits(const c10::OperatorHandle &op, const std::vector<IValue> &given) {
  static const std::set<std::string> waiting = {"aten::nonzero",
                                                "aten::masked_select",
                                                "aten::_unique",
                                                "aten::_unique2",
                                                "aten::unique_dim",
                                                "aten::bincount",
                                                "aten::unique_consecutive",
                                                "aten::repeat_interleave"};
  const std::string &name = op.schema().name();
  if (name.rfind("aten::index", 0) != 0 && name.rfind("aten::_index_put", 0) != 0) {
    return waiting.count(name);
  }
  // A mask is a list of indices that is not known yet.
  return std::any_of(given.begin(), given.end(), [](const IValue &value) {
    if (!value.isOptionalTensorList()) {
      return false;
    }
    for (const std::optional<Tensor> index : value.toOptionalTensorList()) {
      if (index && (index->scalar_type() == at::kBool || index->scalar_type() == at::kByte)) {
        return true;
      }
    }
    return false;
  });
}

// What becomes of the results of an operation, which `found` has on the CPU.
struct Results {
  // On the GPU: the arguments that were written to, and new tensors.
  std::vector<IValue> values;
  // Whether what was found is to be copied there.
  std::vector<bool> copied;
};

// `sizeless` says which arguments are results that get their size from the operation.
template <typename Sizeless>
Results results(const c10::FunctionSchema &schema, const std::vector<IValue> &given, const Stack &found,
                Sizeless &&sizeless) {
  const auto device = gpu_of(given);
  const auto place = [&](const Tensor &x) {
    return x.defined() ? at::empty_strided(x.sizes(), x.strides(), x.options().device(device)) : x;
  };
  Results results;
  for (size_t i = 0; i < found.size(); ++i) {
    const auto *result = schema.returns()[i].alias_info();
    if (!result || !result->isWrite()) {
      results.values.push_back(changed(found[i], place));
      results.copied.push_back(true);
      continue;
    }
    for (size_t a = 0; a < given.size(); ++a) {
      const auto *argument = schema.arguments()[a].alias_info();
      if (argument && argument->isWrite() && argument->beforeSet() == result->beforeSet()) {
        results.values.push_back(given[a]);
        results.copied.push_back(sizeless(a));
        if (results.copied.back()) {
          given[a].toTensor().resize_(found[i].toTensor().sizes());
        }
      }
    }
  }
  TORCH_CHECK(results.values.size() == found.size(), schema.name(), " returns something else");
  return results;
}

void compute(const c10::OperatorHandle &op, Stack *stack) {
  const auto &schema = op.schema();
  const size_t count = schema.arguments().size();
  auto given = torch::jit::last(*stack, count).vec();
  torch::jit::drop(*stack, count);
  auto stream = c10::cuda::getCurrentCUDAStream().stream();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(stream, &status);
  const bool capturing = status != cudaStreamCaptureStatusNone;
  TORCH_CHECK(!capturing || !waits(op, given),
              "operation not permitted when stream is capturing: ", schema.name());
  const auto sizeless = [&](size_t i) {
    const IValue &value = given[i];
    return is_written(schema.arguments()[i]) && value.isTensor() && value.toTensor().is_cuda() &&
           value.toTensor().numel() == 0;
  };
  auto call = std::make_unique<Call>(Call{op, {}, {}});
  Call now{op, {}, {}};
  for (size_t i = 0; i < count; ++i) {
    call->arguments.push_back(sizeless(i) ? at::empty({0}, given[i].toTensor().options().device(at::kCPU))
                                          : changed(given[i], on_host));
    // What is recorded is not done.
    const bool kept = capturing && is_written(schema.arguments()[i]);
    now.arguments.push_back(kept ? changed(call->arguments[i], own_copy) : call->arguments[i]);
  }
  Stack found;
  run(now, found);
  for (const IValue &value : found) {
    TORCH_CHECK(!capturing || value.isTensor() || value.isTensorList(),
                "operation not permitted when stream is capturing: ", schema.name());
  }
  const Results to = results(schema, given, found, sizeless);
  for (size_t i = 0; i < found.size(); ++i) {
    torch::jit::push(*stack, to.values[i]);
    if (!capturing && to.copied[i]) {
      give(to.values[i], found[i]);
    }
    // Only addresses are kept, as by a graph: not the memory.
    call->results.push_back(to.copied[i] ? changed(to.values[i], on_host) : IValue());
  }
  const std::string name = "at " + schema.name();
  if (capturing) {
    // Graphs live as long as the program, or nearly so.
    Call *recorded = call.release();
    emulator_enqueue(stream, name.c_str(), again, &recorded, sizeof recorded);
  } else {
    emulator_enqueue(stream, name.c_str(), nullptr, nullptr, 0);
  }
}

void copy(const c10::OperatorHandle &op, Stack *stack) {
  const auto given = torch::jit::last(*stack, 3);
  Tensor to = given[0].toTensor();
  const Tensor from = given[1].toTensor();
  if (to.device() != from.device()) {
    const bool later = given[2].toBool();
    torch::jit::drop(*stack, 3);
    at::native::copy_(to, from, later);
    torch::jit::push(*stack, to);
    return;
  }
  compute(op, stack);
}

bool is_ours(const c10::OperatorHandle &op) {
  static const std::set<std::string> as_they_are = {"aten::empty",
                                                    "aten::empty_strided",
                                                    "aten::set_",
                                                    "aten::resize_",
                                                    "aten::record_stream",
                                                    "aten::is_pinned",
                                                    "aten::_pin_memory",
                                                    "aten::_local_scalar_dense",
                                                    "aten::_copy_from_and_resize",
                                                    "aten::_cudnn_init_dropout_state",
                                                    "aten::is_set_to",
                                                    "aten::_efficientzerotensor",
                                                    "aten::cudnn_is_acceptable"};
  if (as_they_are.count(op.schema().name()) || op.schema().name().rfind("aten::", 0) != 0) {
    return false;
  }
  // Views.
  for (const auto &returned : op.schema().returns()) {
    if (returned.alias_info() && !returned.alias_info()->isWrite()) {
      return false;
    }
  }
  static const std::set<std::string> composite = {"aten::convolution", "aten::copy_"};
  return composite.count(op.schema().name()) || op.hasKernelForDispatchKey(c10::DispatchKey::CUDA);
}

// What LibTorch says of each operation whose place is taken.
struct Quiet : c10::WarningHandler {
  void process(const c10::Warning &) override {}
};

struct Load {
  std::vector<c10::RegistrationHandleRAII> kept;
  Load() {
    Quiet quiet;
    const c10::WarningUtils::WarningHandlerGuard guard(&quiet);
    auto &dispatcher = c10::Dispatcher::singleton();
    for (const auto &name : dispatcher.getAllOpNames()) {
      const auto op = dispatcher.findSchema(name);
      if (!op || !is_ours(*op)) {
        continue;
      }
      const bool is_copy = op->schema().name() == "aten::copy_";
      auto kernel = is_copy ? c10::KernelFunction::makeFromBoxedFunction<&copy>()
                            : c10::KernelFunction::makeFromBoxedFunction<&compute>();
      kept.push_back(dispatcher.registerImpl(name, c10::DispatchKey::CUDA, std::move(kernel), std::nullopt,
                                             nullptr, "emulator"));
    }
  }
};
Load *load = new Load;

} // namespace
