// What is called: models as Python gives them, and each caller's view of them.

#pragma once

#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/python/pybind_utils.h>
#include <torch/extension.h>

#include <cstdint>
#include <stdexcept>
#include <utility>
#include <variant>
#include <vector>

#include "splitting.h"

namespace inferload {

struct ScriptModel {
  ScriptModel(const torch::jit::Module& module, const py::list& inputs_by_caller)
      : module(module), self(module._ivalue()), method(module.get_method("forward")) {
    for (const auto& own : inputs_by_caller) {
      auto& bound = inputs.emplace_back();
      for (const auto& one : own.cast<py::list>()) {
        const auto pair = one.cast<py::tuple>();
        auto stack = torch::jit::createStackForSchema(
            method.function().getSchema(), torch::jit::tuple_slice(pair[0].cast<py::tuple>()),
            pair[1].cast<py::kwargs>(), self);
        bound.push_back(std::move(stack));
      }
    }
  }

  torch::jit::Module module;
  c10::IValue self;
  torch::jit::Method method;
  std::vector<std::vector<torch::jit::Stack>> inputs;
};

struct AotiModel {
  AotiModel(py::object loader_object, std::vector<std::vector<std::vector<at::Tensor>>> inputs)
      : owner(std::move(loader_object)), inputs(std::move(inputs)) {
    // torch registers a subclass of AOTIModelPackageLoader that no header names, so the pointer
    // is taken from the pybind11 instance instead of cast.
    auto* instance = reinterpret_cast<py::detail::instance*>(owner.ptr());
    loader = static_cast<torch::inductor::AOTIModelPackageLoader*>(
        instance->get_value_and_holder().value_ptr());
  }

  py::object owner;
  torch::inductor::AOTIModelPackageLoader* loader;
  std::vector<std::vector<std::vector<at::Tensor>>> inputs;
};

// A CUDA graph that replays one caller's call with one of its inputs. The library that it is in has
// no headers here: its one function is found by name.
struct GraphUse {
  void* graph;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;  // an input, and where the graph reads it
  std::vector<at::Tensor> outputs;
};

struct GraphModel {
  // uses[caller][input] is (graph, [(input, buffer), ...], [output, ...])
  explicit GraphModel(const py::list& uses_by_caller) : owner(uses_by_caller) {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* found = library ? dlsym(library, "_ZN2at4cuda9CUDAGraph6replayEv") : nullptr;
    if (found == nullptr) {
      throw std::runtime_error("this torch has no at::cuda::CUDAGraph::replay");
    }
    replay = reinterpret_cast<void (*)(void*)>(found);
    for (const auto& own : uses_by_caller) {
      auto& uses = inputs.emplace_back();
      for (const auto& one : own.cast<py::list>()) {
        const auto parts = one.cast<py::tuple>();
        auto* instance = reinterpret_cast<py::detail::instance*>(parts[0].ptr());
        uses.push_back({instance->get_value_and_holder().value_ptr(),
                        parts[1].cast<std::vector<std::pair<at::Tensor, at::Tensor>>>(),
                        parts[2].cast<std::vector<at::Tensor>>()});
      }
    }
  }

  py::object owner;
  void (*replay)(void*);
  std::vector<std::vector<GraphUse>> inputs;
};

// The tensors in a value, whatever it is made of.
inline void collect_tensors(const c10::IValue& value, std::vector<at::Tensor>& found) {
  if (value.isTensor()) {
    found.push_back(value.toTensor());
  } else if (value.isTuple()) {
    for (const auto& one : value.toTupleRef().elements()) {
      collect_tensors(one, found);
    }
  } else if (value.isList()) {
    for (const c10::IValue& one : value.toListRef()) {
      collect_tensors(one, found);
    }
  } else if (value.isGenericDict()) {
    for (const auto& one : value.toGenericDict()) {
      collect_tensors(one.value(), found);
    }
  }
}

inline std::vector<c10::IValue> copies_of_pieces(const std::vector<at::Tensor>& outputs,
                                                 const Share& share) {
  std::vector<c10::IValue> copies;
  // an entry has as many of them as any other
  const size_t each = share.by_entry ? outputs.size() / share.size : 0;
  const size_t first = share.by_entry ? share.begin * each : 0;
  const size_t end = share.by_entry ? first + share.count * each : outputs.size();
  for (size_t place = first; place < end; ++place) {
    copies.push_back(share.by_entry ? outputs[place].clone()
                                    : copy_of_piece(outputs[place], share));
  }
  return copies;
}

// One caller's view of a model: call() runs input k, release() lets go of what it returned.
struct ScriptCall {
  ScriptCall(ScriptModel& model, size_t caller)
      : function(model.method.function()), inputs(model.inputs[caller]) {}
  void call(int32_t k) {
    stack.assign(inputs[k].begin(), inputs[k].end());
    function.run(stack);
  }
  void release() { stack.clear(); }
  // A copy of what was returned, made before any other call can write into it.
  std::vector<c10::IValue> copy_outputs() const {
    std::vector<c10::IValue> copies;
    for (const auto& output : stack) {
      copies.push_back(output.deepcopy());
    }
    return copies;
  }
  // The same of what one request of a batch got.
  std::vector<c10::IValue> copy_piece(const Share& share) const {
    std::vector<c10::IValue> copies;
    for (const auto& output : stack) {
      copies.push_back(copy_of_piece(output, share));
    }
    return copies;
  }
  void output_tensors(std::vector<at::Tensor>& found) const {
    for (const auto& output : stack) {
      collect_tensors(output, found);
    }
  }
  size_t entries(int64_t) const { return stack.empty() ? 0 : entries_of(stack.front()); }

  torch::jit::Function& function;
  const std::vector<torch::jit::Stack>& inputs;
  torch::jit::Stack stack;
};

struct AotiCall {
  AotiCall(AotiModel& model, size_t caller) : loader(*model.loader), inputs(model.inputs[caller]) {}
  void call(int32_t k) { outputs = loader.run(inputs[k]); }
  void release() { outputs.clear(); }
  std::vector<c10::IValue> copy_outputs() const {
    std::vector<c10::IValue> copies;
    for (const auto& output : outputs) {
      copies.emplace_back(output.clone());
    }
    return copies;
  }
  std::vector<c10::IValue> copy_piece(const Share& share) const {
    return copies_of_pieces(outputs, share);
  }
  void output_tensors(std::vector<at::Tensor>& found) const { found = outputs; }
  size_t entries(int64_t size) const { return entries_among(outputs.size(), size); }

  torch::inductor::AOTIModelPackageLoader& loader;
  const std::vector<std::vector<at::Tensor>>& inputs;
  std::vector<at::Tensor> outputs;
};

struct GraphCall {
  GraphCall(GraphModel& model, size_t caller) : replay(model.replay), uses(model.inputs[caller]) {}
  void call(int32_t k) {
    use = &uses[k];
    for (const auto& [input, buffer] : use->copies) {
      buffer.copy_(input, true);
    }
    replay(use->graph);
  }
  void release() {}
  std::vector<c10::IValue> copy_outputs() const {
    std::vector<c10::IValue> copies;
    for (const auto& output : use->outputs) {
      copies.emplace_back(output.clone());
    }
    return copies;
  }
  std::vector<c10::IValue> copy_piece(const Share& share) const {
    return copies_of_pieces(use->outputs, share);
  }
  void output_tensors(std::vector<at::Tensor>& found) const { found = use->outputs; }
  size_t entries(int64_t size) const { return entries_among(use->outputs.size(), size); }

  void (*replay)(void*);
  const std::vector<GraphUse>& uses;
  const GraphUse* use = nullptr;
};

// Several models: each input belongs to one of them, and has a number among that one's inputs.
struct MixModel {
  MixModel(const py::list& objects, std::vector<int32_t> owner, std::vector<int32_t> local)
      : owner(std::move(owner)), local(std::move(local)) {
    for (const auto& object : objects) {
      owners.push_back(py::reinterpret_borrow<py::object>(object));
      if (py::isinstance<ScriptModel>(object)) {
        models.emplace_back(object.cast<ScriptModel*>());
      } else if (py::isinstance<GraphModel>(object)) {
        models.emplace_back(object.cast<GraphModel*>());
      } else {
        models.emplace_back(object.cast<AotiModel*>());
      }
    }
  }

  std::vector<py::object> owners;
  std::vector<std::variant<ScriptModel*, GraphModel*, AotiModel*>> models;
  std::vector<int32_t> owner, local;
};

struct MixCall {
  MixCall(MixModel& mix, size_t caller) : mix(mix) {
    calls.reserve(mix.models.size());
    for (auto& model : mix.models) {
      if (auto* script = std::get_if<ScriptModel*>(&model)) {
        calls.emplace_back(std::in_place_type<ScriptCall>, **script, caller);
      } else if (auto* graph = std::get_if<GraphModel*>(&model)) {
        calls.emplace_back(std::in_place_type<GraphCall>, **graph, caller);
      } else {
        calls.emplace_back(std::in_place_type<AotiCall>, *std::get<AotiModel*>(model), caller);
      }
    }
  }
  void call(int32_t k) {
    current = &calls[mix.owner[k]];
    std::visit([&](auto& one) { one.call(mix.local[k]); }, *current);
  }
  void release() {
    if (current != nullptr) {
      std::visit([](auto& one) { one.release(); }, *current);
    }
  }
  std::vector<c10::IValue> copy_outputs() const {
    return std::visit([](const auto& one) { return one.copy_outputs(); }, *current);
  }
  std::vector<c10::IValue> copy_piece(const Share& share) const {
    return std::visit([&](const auto& one) { return one.copy_piece(share); }, *current);
  }
  void output_tensors(std::vector<at::Tensor>& found) const {
    std::visit([&](const auto& one) { one.output_tensors(found); }, *current);
  }
  size_t entries(int64_t size) const {
    return std::visit([&](const auto& one) { return one.entries(size); }, *current);
  }

  const MixModel& mix;
  std::vector<std::variant<ScriptCall, GraphCall, AotiCall>> calls;
  std::variant<ScriptCall, GraphCall, AotiCall>* current = nullptr;
};

// A call that does nothing: what is measured then is the harness itself.
struct NoModel {
  explicit NoModel(int32_t callers) : inputs(callers, std::vector<int>(1)) {}
  std::vector<std::vector<int>> inputs;
};

struct NoCall {
  NoCall(NoModel&, size_t) {}
  void call(int32_t k) { asm volatile("" : : "r"(k) : "memory"); }
  void release() {}
  std::vector<c10::IValue> copy_outputs() const { return {}; }
  std::vector<c10::IValue> copy_piece(const Share&) const { return {}; }
  void output_tensors(std::vector<at::Tensor>&) const {}
  size_t entries(int64_t size) const { return size; }
};

}  // namespace inferload
