// What runs are held against: loops that do nothing else.

#pragma once

#include <sched.h>
#include <torch/extension.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "caller_devices.h"
#include "clock.h"
#include "gathering.h"
#include "job.h"

namespace inferload {

// What calls of nothing take that wait for an idle device, by a thread with a stream for each use:
// the least that callers could do. Nanoseconds between two calls of a thread; 0 if the device has
// failed.
inline double bare_waits_ns(const std::vector<std::string>& devices,
                            const std::vector<c10::Stream>& shared,
                            const std::vector<DeviceUse>& uses, int64_t duration_ns) {
  py::gil_scoped_release no_gil;
  const auto all = devices_of(devices);
  std::atomic<size_t> ready{0}, expected{uses.size()};
  std::atomic<int64_t> busy_ns{0}, calls{0};
  const auto call_and_wait = [&](const DeviceUse& use) {
    try {
      CallerDevices on(all, shared, use, nullptr);
      on.time_next(false);
      ++ready;
      while (ready.load() < expected.load()) {
        sched_yield();
      }
      const int64_t started = now_ns();
      int64_t now = started, own = 0;
      for (; now - started < duration_ns; ++own, now = now_ns()) {
        on.end();
        on.wait();
      }
      busy_ns += now - started;
      calls += own;
    } catch (...) {  // the callers' own calls will say so
      ++ready;
    }
  };
  std::vector<std::thread> threads;
  try {
    for (const auto& use : uses) {
      threads.emplace_back(call_and_wait, std::cref(use));
    }
  } catch (const std::system_error&) {  // no more threads: those that there are
    expected = threads.size();
  }
  for (auto& thread : threads) {
    thread.join();
  }
  return calls > 0 ? static_cast<double>(busy_ns) / static_cast<double>(calls) : 0.0;
}

// What a run is held against: the same calls by one thread, no stamps, no counter, no log.
template <class Model, class Call>
double bare_loop_ns(Model& model, int64_t calls) {
  py::gil_scoped_release no_gil;
  Call target(model, 0);
  const int64_t started = now_ns();
  for (int64_t i = 0; i < calls; ++i) {
    target.call(0);
    target.release();
  }
  return static_cast<double>(now_ns() - started) / static_cast<double>(calls);
}

// What batches are held against: one is put together and called again and again by one thread.
// Nanoseconds a batch, without the time that it takes to put it together, and with it.
template <class Model, class Call>
std::pair<double, double> bare_batches_ns(Model& model, const GatherPlan& plan, int32_t shape,
                                          int64_t batches) {
  py::gil_scoped_release no_gil;
  Call target(model, 0);
  Gathering gathering(plan, 0);
  gathering.choose_example(shape);
  const auto each_ns = [&](bool gathers) {
    const int64_t started = now_ns();
    for (int64_t i = 0; i < batches; ++i) {
      if (gathers) {
        gathering.gather();
      }
      target.call(shape);
      target.release();
    }
    return static_cast<double>(now_ns() - started) / static_cast<double>(batches);
  };
  const double without = each_ns(false);
  return {without, each_ns(true)};
}

}  // namespace inferload
