// A simulated accelerator: PrivateUse1 with two devices whose memory is host memory.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "simulated_guard.h"
#include "simulated_memory.h"
#include "simulated_time.h"

namespace {

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return kDevices; }
  DeviceIndex getCurrentDevice() const override { return current_device; }
  void setCurrentDevice(DeviceIndex device) const override { current_device = checked(device); }

  DeviceIndex exchangeDevice(DeviceIndex device) const override {
    return std::exchange(current_device, checked(device));
  }

  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override {
    return exchangeDevice(device);
  }

  bool isPinnedPtr(const void* data) const override { return PinnedMemory::instance().owns(data); }

  c10::Allocator* getPinnedMemoryAllocator() const override { return &PinnedMemory::instance(); }

  Device getDeviceFromPtr(void* data) const override {
    return Device(kSim, DeviceMemory::instance().device_of(data));
  }

  // Random numbers come from CPU kernels, which take the CPU's generators only.
  const at::Generator& getDefaultGenerator(DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }

  at::Generator getNewGenerator(DeviceIndex) const override {
    return at::detail::createCPUGenerator();
  }

  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    const c10::DeviceGuard guard(storage.device());
    if (bytes == 0) {  // torch's own would leave an empty storage of the CPU
      storage.set_data_ptr_noswap(DeviceMemory::instance().allocate(0));
      storage.set_nbytes(0);
    } else {
      at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), bytes);
    }
  }
};

at::Tensor empty(c10::IntArrayRef size, std::optional<c10::ScalarType> dtype,
                 std::optional<c10::Layout>, std::optional<Device> device,
                 std::optional<bool> pin_memory, std::optional<c10::MemoryFormat> memory_format) {
  TORCH_CHECK(!pin_memory.value_or(false), "only memory of the host can be pinned");
  const c10::DeviceGuard guard(device.value_or(Device(kSim)));
  return at::detail::empty_generic(size, &DeviceMemory::instance(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), memory_format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                         std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
                         std::optional<Device> device, std::optional<bool> pin_memory) {
  TORCH_CHECK(!pin_memory.value_or(false), "only memory of the host can be pinned");
  const c10::DeviceGuard guard(device.value_or(Device(kSim)));
  return at::detail::empty_strided_generic(size, stride, &DeviceMemory::instance(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

const at::Tensor& resize(const at::Tensor& self, c10::IntArrayRef size,
                         std::optional<c10::MemoryFormat> memory_format) {
  const c10::DeviceGuard guard(self.device());
  return at::native::resize_(self, size, memory_format);
}

at::Tensor& set_storage(at::Tensor& self, c10::Storage source) {
  return at::native::set_(self, std::move(source));
}

at::Tensor& set_storage_at(at::Tensor& self, c10::Storage source, int64_t offset,
                           c10::IntArrayRef size, c10::IntArrayRef stride) {
  const c10::DeviceGuard guard(self.device());
  return at::native::set_storage_cpu_(self, std::move(source), offset, size, stride);
}

at::Tensor& set_empty(at::Tensor& self) {
  const c10::DeviceGuard guard(self.device());
  const c10::Storage nothing(c10::Storage::use_byte_size_t(), 0, &DeviceMemory::instance(),
                             /*resizable=*/true);
  return at::native::set_storage_cpu_(self, nothing, 0, {0}, {});
}

at::Tensor as_host_tensor(const at::Tensor& tensor) {
  if (!tensor.is_privateuseone()) {
    return tensor;
  }
  auto host = at::from_blob(tensor.mutable_data_ptr(), tensor.sizes(), tensor.strides(),
                            tensor.options().device(c10::DeviceType::CPU));
  host._set_conj(tensor.is_conj());
  host._set_neg(tensor.is_neg());
  return host;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const auto move_data = [&] {
    if (to.numel() != 0) {
      const KernelScope scope;
      as_host_tensor(to).copy_(as_host_tensor(from));
    }
  };
  // within one device a copy is a kernel, and those take no time unless asked for
  if (kernel_depth > 0 || from.device() == to.device()) {
    move_data();
    return to;
  }
  const double rate = simulation().copy_rate;
  const auto ns =
      rate > 0 ? static_cast<int64_t>(static_cast<double>(to.nbytes()) * 1e9 / rate) : 0;
  if (!from.is_cpu() && !to.is_cpu()) {
    const auto source = stream_in_use(from.device().index());
    const auto target = stream_in_use(to.device().index());
    wait_on_device(source, end_of(target));
    move_data();
    occupy(source, ns);
    wait_on_device(target, end_of(source));
    return to;
  }
  const auto stream = stream_in_use((from.is_cpu() ? to : from).device().index());
  if (!non_blocking) {
    synchronize(stream);
  }
  move_data();
  occupy(stream, ns);
  if (!non_blocking) {
    synchronize(stream);
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, /*non_blocking=*/false);
}

c10::Scalar local_scalar(const at::Tensor& self) {
  if (kernel_depth == 0) {
    synchronize(stream_in_use(self.device().index()));
  }
  return at::native::_local_scalar_dense_cpu(as_host_tensor(self));
}

// A real device refuses to mix devices too; CPU scalars are kernel arguments.
std::optional<Device> common_device(const torch::jit::Stack& stack, size_t arguments) {
  std::optional<Device> found;
  std::optional<Device> other;
  for (const auto& argument : torch::jit::last(stack, arguments)) {
    if (!argument.isTensor() || !argument.toTensor().defined()) {
      continue;
    }
    const auto& tensor = argument.toTensor();
    if (tensor.is_cpu() && tensor.dim() == 0) {
      continue;
    }
    if (found && *found != tensor.device()) {
      other = tensor.device();
    }
    if (!found || tensor.is_privateuseone()) {
      found = tensor.device();
    }
  }
  TORCH_CHECK(!other,
              "Expected all tensors to be on the same device, but found at least two devices, ",
              found.value_or(Device(kSim)), " and ", other.value_or(Device(kSim)), "!");
  return found;
}

void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto device = common_device(*stack, schema.arguments().size());
  const auto& returns = schema.returns();
  const bool host_reads_result = std::any_of(returns.begin(), returns.end(), [](const auto& each) {
    const auto kind = each.type()->kind();
    return kind == c10::TypeKind::BoolType || kind == c10::TypeKind::NumberType;
  });
  if (host_reads_result && kernel_depth == 0 && device && device->is_privateuseone()) {
    synchronize(stream_in_use(device->index()));
  }
  const KernelScope scope;
  at::native::cpu_fallback(op, stack);
}

at::Tensor work(const at::Tensor& x, int64_t ns) {
  TORCH_CHECK(ns >= 0, "work cannot take ", ns, " ns");
  raise_if_failed(x.device().index());
  const KernelScope scope;
  auto result = x.clone();
  occupy(stream_in_use(x.device().index()), ns);
  return result;
}

at::Tensor fail(const at::Tensor& x) {
  auto result = work(x, 0);
  const auto stream = stream_in_use(x.device().index());
  std::lock_guard lock(simulation().mutex);
  auto& fails_at = simulation().devices[stream.device_index()].fails_at;
  fails_at = std::min(fails_at, busy_until(stream));
  return result;
}

}  // namespace

TORCH_LIBRARY(sim, m) {
  m.def("work(Tensor x, int ns) -> Tensor");
  m.def("fail(Tensor x) -> Tensor");
}

TORCH_LIBRARY_IMPL(sim, PrivateUse1, m) {
  m.impl("work", work);
  m.impl("fail", fail);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("resize_", resize);
  m.impl("set_", set_empty);
  m.impl("set_.source_Tensor", at::native::set_tensor_);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage_at);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("view_as_complex", at::native::view_as_complex);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("record_stream", [](at::Tensor&, Stream) {});
}

// Left to torch, a conjugated tensor is resolved by a clone, which copies it, which resolves it ...
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

// Autocast may be switched on for the device, and casts nothing there.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  at::RegisterPrivateUse1HooksInterface(new Hooks);

  const auto device_or_current = [](int device) {
    return device < 0 ? current_device : checked(static_cast<DeviceIndex>(device));
  };
  const auto stats = [=](int device) {
    return DeviceMemory::instance().getDeviceStats(device_or_current(device)).allocated_bytes[0];
  };
  const auto device = pybind11::arg("device") = -1;

  m.def("set_exclusive", [](bool exclusive) {
    std::lock_guard lock(simulation().mutex);
    simulation().exclusive = exclusive;
  });
  m.def("hold_clock", [](bool hold) {
    held_ns = 0;
    held_ns = hold ? now_ns() : 0;
  });
  m.def("set_copy_rate", [](double bytes_per_s) { simulation().copy_rate = bytes_per_s; });
  m.def("set_capacity", [](size_t bytes) { DeviceMemory::instance().set_capacity(bytes); });
  m.def("allocated", [=](int index) { return stats(index).current; }, device);
  m.def("peak", [=](int index) { return stats(index).peak; }, device);
  m.def(
      "reset_peak",
      [=](int index) { DeviceMemory::instance().resetPeakStats(device_or_current(index)); },
      device);
  m.def(
      "memory_info",
      [=](int index) { return DeviceMemory::instance().getMemoryInfo(device_or_current(index)); },
      device);
  m.def("clear_error", [] {
    std::lock_guard lock(simulation().mutex);
    for (auto& each : simulation().devices) {
      each.fails_at = kNever;
      each.failed = false;
    }
  });
}
