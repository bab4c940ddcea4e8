// The clock that callers go by, and what of their time the machine took.

#pragma once

#include <cstdint>
#include <ctime>
#include <fstream>
#include <limits>

namespace inferload {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// CLOCK_MONOTONIC is what time.perf_counter_ns reads on Linux.
inline int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

inline void sleep_until(int64_t time_ns) {
  const timespec t{time_ns / 1'000'000'000, time_ns % 1'000'000'000};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr);
}

// How long this thread has stood in a run queue, waiting for a core; 0 where the kernel does not
// say (proc(5), schedstat).
inline int64_t run_delay_ns() {
  std::ifstream file("/proc/thread-self/schedstat");
  int64_t on_core = 0, waiting = 0;
  return file >> on_core >> waiting ? waiting : 0;
}

}  // namespace inferload
