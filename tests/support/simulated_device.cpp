// A simulated accelerator: PrivateUse1 with two devices whose memory is host memory.
//
// Its streams are asynchronous in time only: data are computed at once, but each piece of device
// work occupies its stream until a time on CLOCK_MONOTONIC, and synchronizing means sleeping until
// that time.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/CachingHostAllocator.h>
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
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <pybind11/pybind11.h>
#include <time.h>
#include <torch/library.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::Stream;
using c10::StreamId;

constexpr auto kSim = c10::DeviceType::PrivateUse1;
constexpr DeviceIndex kDevices = 2;
constexpr int kPooledStreams = 32;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

thread_local DeviceIndex current_device = 0;
thread_local std::array<StreamId, kDevices> current_stream{};
// Inside a kernel copies are computing, not transfers: they take no time and wait for nothing.
thread_local int kernel_depth = 0;

struct KernelScope {
  KernelScope() { ++kernel_depth; }
  ~KernelScope() { --kernel_depth; }
};

// 0: the machine's clock. Else what time it is: only whoever waits for the device lets it pass.
std::atomic<int64_t> held_ns{0};

int64_t now_ns() {
  if (const auto held = held_ns.load()) {
    return held;
  }
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

void sleep_until(int64_t ns) {
  for (auto held = held_ns.load(); held != 0;) {
    if (ns <= held || held_ns.compare_exchange_weak(held, ns)) {
      return;
    }
  }
  timespec t{};
  t.tv_sec = ns / 1'000'000'000LL;
  t.tv_nsec = ns % 1'000'000'000LL;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) == EINTR) {
  }
}

DeviceIndex checked(DeviceIndex index) {
  TORCH_CHECK(0 <= index && index < kDevices, "SIM error: there is no device ",
              static_cast<int>(index));
  return index;
}

DeviceIndex index_of(Device device) {
  return device.has_index() ? checked(device.index()) : current_device;
}

struct Timeline {
  std::array<int64_t, kPooledStreams + 1> busy_until{};
  int64_t engine_busy_until = 0;
  int64_t fails_at = kNever;
  bool failed = false;
  unsigned handed_out = 0;
};

struct Simulation {
  std::mutex mutex;
  std::array<Timeline, kDevices> devices;
  bool exclusive = false;
  std::atomic<double> copy_rate = 0;  // bytes per second; 0: copies take no time
};

// Never destroyed: tensors and events may outlive every static object.
Simulation& simulation() {
  static auto* it = new Simulation;
  return *it;
}

struct SimEvent {
  int64_t time;
  DeviceIndex device;
};

Stream as_stream(DeviceIndex device, StreamId id) {
  return Stream(Stream::UNSAFE, Device(kSim, device), id);
}

Stream stream_in_use(DeviceIndex device) { return as_stream(device, current_stream[device]); }

int64_t& busy_until(const Stream& stream) {
  return simulation().devices[checked(stream.device_index())].busy_until.at(stream.id());
}

void occupy(const Stream& stream, int64_t ns) {
  auto& sim = simulation();
  std::lock_guard lock(sim.mutex);
  auto& busy = busy_until(stream);
  auto& engine = sim.devices[stream.device_index()].engine_busy_until;
  const auto begin = std::max({now_ns(), busy, sim.exclusive ? engine : 0});
  busy = begin + ns;
  engine = std::max(engine, busy);
}

void wait_on_device(const Stream& stream, int64_t time) {
  std::lock_guard lock(simulation().mutex);
  auto& busy = busy_until(stream);
  busy = std::max(busy, time);
}

int64_t end_of(const Stream& stream) {
  std::lock_guard lock(simulation().mutex);
  return busy_until(stream);
}

void raise_if_failed(DeviceIndex device) {
  bool failed = false;
  {
    std::lock_guard lock(simulation().mutex);
    failed = simulation().devices[device].failed;
  }
  TORCH_CHECK(!failed, "SIM error: device-side assert triggered");
}

// What the host does once it knows that the device has come this far.
void look_for_failure(DeviceIndex device) {
  {
    std::lock_guard lock(simulation().mutex);
    auto& timeline = simulation().devices[device];
    timeline.failed = timeline.failed || timeline.fails_at <= now_ns();
  }
  raise_if_failed(device);
}

void synchronize_until(DeviceIndex device, int64_t time) {
  raise_if_failed(device);
  sleep_until(time);
  look_for_failure(device);
}

void synchronize(const Stream& stream) { synchronize_until(stream.device_index(), end_of(stream)); }

void synchronize_device(DeviceIndex device) {
  int64_t end = 0;
  {
    std::lock_guard lock(simulation().mutex);
    const auto& ends = simulation().devices[checked(device)].busy_until;
    end = *std::max_element(ends.begin(), ends.end());
  }
  synchronize_until(device, end);
}

bool finished(DeviceIndex device, int64_t time) {
  raise_if_failed(device);
  if (now_ns() < time) {
    return false;
  }
  look_for_failure(device);
  return true;
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kSim; }

  Device exchangeDevice(Device device) const override {
    const auto previous = getDevice();
    setDevice(device);
    return previous;
  }

  Device getDevice() const override { return Device(kSim, current_device); }

  void setDevice(Device device) const override { current_device = index_of(device); }

  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.has_index() && device.index() < kDevices) {
      current_device = device.index();
    }
  }

  Stream getStream(Device device) const override { return stream_in_use(index_of(device)); }

  Stream getDefaultStream(Device device) const override { return as_stream(index_of(device), 0); }

  Stream getStreamFromGlobalPool(Device device, bool) const override {
    const auto index = index_of(device);
    std::lock_guard lock(simulation().mutex);
    return as_stream(index, 1 + simulation().devices[index].handed_out++ % kPooledStreams);
  }

  Stream getNewStream(Device device, int) const override {
    return getStreamFromGlobalPool(device, false);
  }

  Stream exchangeStream(Stream stream) const override {
    const auto previous = stream_in_use(checked(stream.device_index()));
    current_stream[stream.device_index()] = stream.id();
    return previous;
  }

  void* getStreamNativeHandle(const Stream stream) const override {
    return reinterpret_cast<void*>(stream.id());
  }

  void destroyEvent(void* event, const DeviceIndex) const noexcept override {
    delete static_cast<SimEvent*>(event);
  }

  void record(void** event, const Stream& stream, const DeviceIndex index,
              const c10::EventFlag) const override {
    TORCH_CHECK(index == -1 || index == stream.device_index(), "Event device ",
                static_cast<int>(index), " does not match the stream's device ",
                static_cast<int>(stream.device_index()));
    std::lock_guard lock(simulation().mutex);
    const SimEvent recorded{std::max(now_ns(), busy_until(stream)), stream.device_index()};
    if (*event == nullptr) {
      *event = new SimEvent(recorded);
    } else {
      *static_cast<SimEvent*>(*event) = recorded;
    }
  }

  void block(void* event, const Stream& stream) const override {
    wait_on_device(stream, read(event).time);
  }

  bool queryEvent(void* event) const override {
    const auto recorded = read(event);
    return finished(recorded.device, recorded.time);
  }

  DeviceIndex deviceCount() const noexcept override { return kDevices; }

  bool queryStream(const Stream& stream) const override {
    return finished(stream.device_index(), end_of(stream));
  }

  void synchronizeStream(const Stream& stream) const override { synchronize(stream); }

  void synchronizeEvent(void* event) const override {
    const auto recorded = read(event);
    synchronize_until(recorded.device, recorded.time);
  }

  void synchronizeDevice(const DeviceIndex device) const override { synchronize_device(device); }

  c10::DeviceCapability getDeviceCapability(Device) const override { return {}; }

  double elapsedTime(void* event1, void* event2, const DeviceIndex) const override {
    return static_cast<double>(read(event2).time - read(event1).time) / 1e6;
  }

 private:
  static SimEvent read(void* event) {
    std::lock_guard lock(simulation().mutex);
    return *static_cast<SimEvent*>(event);
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

void* host_memory(size_t bytes) {
  void* pointer = nullptr;
  TORCH_CHECK(posix_memalign(&pointer, 64, bytes) == 0, "the host has no ", bytes, " bytes left");
  return pointer;
}

std::string in_words(size_t bytes) {
  constexpr std::array<const char*, 3> names{"KiB", "MiB", "GiB"};
  if (bytes <= 1024) {
    return std::to_string(bytes) + " bytes";
  }
  auto size = static_cast<double>(bytes) / 1024;
  size_t name = 0;
  while (size > 1024 && name + 1 < names.size()) {
    size /= 1024;
    ++name;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2f %s", size, names.at(name));
  return text.data();
}

struct DeviceMemory final : c10::DeviceAllocator {
  using Stats = c10::CachingDeviceAllocator::DeviceStats;

  c10::DataPtr allocate(size_t bytes) override {
    const auto device = current_device;
    if (bytes == 0) {
      return {nullptr, nullptr, &release, Device(kSim, device)};
    }
    std::lock_guard lock(mutex_);
    auto& stats = stats_[device];
    const auto in_use = current(stats);
    if (capacity_ != 0 && (in_use > capacity_ || bytes > capacity_ - in_use)) {
      ++stats.num_ooms;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "sim out of memory. Tried to allocate ",
                       in_words(bytes), ". GPU ", static_cast<int>(device),
                       " has a total capacity of ", in_words(capacity_), " of which ",
                       in_words(capacity_ - std::min(in_use, capacity_)), " is free.");
    }
    void* pointer = host_memory(bytes);
    blocks_[pointer] = {bytes, device};
    stats.allocation[0].increase(1);
    stats.allocated_bytes[0].increase(bytes);
    stats.reserved_bytes[0].increase(bytes);
    return {pointer, pointer, &release, Device(kSim, device)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, Stream) override {}

  Stats getDeviceStats(DeviceIndex device) override {
    std::lock_guard lock(mutex_);
    return stats_[checked(device)];
  }

  void resetAccumulatedStats(DeviceIndex device) override {
    change(device, [](c10::CachingAllocator::Stat& stat) { stat.reset_accumulated(); });
  }

  void resetPeakStats(DeviceIndex device) override {
    change(device, [](c10::CachingAllocator::Stat& stat) { stat.reset_peak(); });
  }

  std::pair<size_t, size_t> getMemoryInfo(DeviceIndex device) override {
    std::lock_guard lock(mutex_);
    const auto host =
        static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const auto total = capacity_ != 0 ? capacity_ : host;
    return {total - std::min(total, current(stats_[checked(device)])), total};
  }

  void set_capacity(size_t bytes) {
    std::lock_guard lock(mutex_);
    capacity_ = bytes;
  }

  DeviceIndex device_of(void* pointer) {
    std::lock_guard lock(mutex_);
    const auto block = blocks_.find(pointer);
    TORCH_CHECK(block != blocks_.end(), "SIM error: not the address of device memory");
    return block->second.device;
  }

  static DeviceMemory& instance() {
    static auto* it = new DeviceMemory;
    return *it;
  }

 private:
  struct Block {
    size_t bytes;
    DeviceIndex device;
  };

  static size_t current(const Stats& stats) {
    return static_cast<size_t>(stats.allocated_bytes[0].current);
  }

  static void release(void* pointer) {
    if (pointer == nullptr) {
      return;
    }
    auto& self = instance();
    std::lock_guard lock(self.mutex_);
    const auto block = self.blocks_.find(pointer);
    auto& stats = self.stats_[block->second.device];
    stats.allocation[0].decrease(1);
    stats.allocated_bytes[0].decrease(block->second.bytes);
    stats.reserved_bytes[0].decrease(block->second.bytes);
    self.blocks_.erase(block);
    std::free(pointer);
  }

  template <typename Change>
  void change(DeviceIndex device, Change apply) {
    std::lock_guard lock(mutex_);
    auto& stats = stats_[checked(device)];
    apply(stats.allocation[0]);
    apply(stats.allocated_bytes[0]);
    apply(stats.reserved_bytes[0]);
  }

  std::mutex mutex_;
  std::unordered_map<void*, Block> blocks_;
  std::array<Stats, kDevices> stats_;
  size_t capacity_ = 0;
};

struct PinnedMemory final : at::HostAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* pointer = host_memory(std::max<size_t>(bytes, 1));
    std::lock_guard lock(mutex_);
    ends_[static_cast<char*>(pointer)] = static_cast<char*>(pointer) + std::max<size_t>(bytes, 1);
    return {pointer, pointer, &release, c10::DeviceType::CPU};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  bool record_event(void*, void*, Stream) override { return true; }
  void empty_cache() override {}
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}

  bool owns(const void* pointer) {
    std::lock_guard lock(mutex_);
    auto after = ends_.upper_bound(static_cast<const char*>(pointer));
    return after != ends_.begin() && pointer < std::prev(after)->second;
  }

  static PinnedMemory& instance() {
    static auto* it = new PinnedMemory;
    return *it;
  }

 private:
  static void release(void* pointer) {
    auto& self = instance();
    std::lock_guard lock(self.mutex_);
    self.ends_.erase(static_cast<char*>(pointer));
    std::free(pointer);
  }

  std::mutex mutex_;
  std::map<const char*, const char*> ends_;
};

REGISTER_ALLOCATOR(kSim, &DeviceMemory::instance())
REGISTER_HOST_ALLOCATOR(kSim, &PinnedMemory::instance())

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
