// The state of the thread that starts a run, as each caller takes it over, and a caller's cores.

#pragma once

#include <ATen/ThreadLocalState.h>
#include <ATen/autocast_mode.h>
#include <sched.h>

#include <utility>
#include <vector>

namespace inferload {

class CallingThread {
 public:
  CallingThread() : cache_enabled_(at::autocast::is_autocast_cache_enabled()) {
    // torch 2.6 has no list of them
    const auto types = static_cast<int>(at::DeviceType::COMPILE_TIME_MAX_DEVICE_TYPES);
    for (int number = 0; number < types; ++number) {
      const auto device = static_cast<at::DeviceType>(number);
      if (at::autocast::is_autocast_available(device)) {
        dtypes_.emplace_back(device, at::autocast::get_autocast_dtype(device));
      }
    }
  }

  void take_over() const {
    at::ThreadLocalState::setThreadLocalState(state_);
    // ThreadLocalState leaves the cache flag out, and the dtypes on older releases.
    for (const auto& [device, dtype] : dtypes_) {
      at::autocast::set_autocast_dtype(device, dtype);
    }
    at::autocast::set_autocast_cache_enabled(cache_enabled_);
  }

 private:
  at::ThreadLocalState state_;
  bool cache_enabled_;
  std::vector<std::pair<at::DeviceType, at::ScalarType>> dtypes_;
};

// Hold this thread to some cores, or to none of them in particular; those that it may run on then.
// Before anything else: the intra-op threads that a caller starts inherit its cores.
inline std::vector<int> hold_to_cpus(const std::vector<int>& wanted) {
  cpu_set_t set;
  if (!wanted.empty()) {
    CPU_ZERO(&set);
    for (const int cpu : wanted) {
      CPU_SET(cpu, &set);
    }
    sched_setaffinity(0, sizeof(set), &set);
  }
  std::vector<int> found;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) {
        found.push_back(cpu);
      }
    }
  }
  return found;
}

}  // namespace inferload
