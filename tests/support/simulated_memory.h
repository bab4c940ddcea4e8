// Memory of the simulated devices, counted and bounded, and pinned memory of the host.

#pragma once

#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "simulated_time.h"

namespace {

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

}  // namespace
