// Streams and events of the simulated accelerator, whose work takes time and nothing else.
//
// Its streams are asynchronous in time only: data are computed at once, but each piece of device
// work occupies its stream until a time on CLOCK_MONOTONIC, and synchronizing means sleeping until
// that time.

#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/util/Exception.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
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

}  // namespace
