// What one caller has of the devices that its calls have work on.

#pragma once

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "clock.h"
#include "job.h"
#include "log_columns.h"

namespace inferload {

// How long a caller that waits for an event looks whether it is there before it sleeps: a thread
// that sleeps is woken so much later.
constexpr int64_t kLookNs = 50'000;

inline std::vector<c10::Device> devices_of(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

// A stream on each, and events that say when work was done.
class CallerDevices {
 public:
  CallerDevices(const std::vector<c10::Device>& devices, const std::vector<c10::Stream>& shared,
                const DeviceUse& use, const std::vector<Copies>* copies_in)
      : by_event_(use.by_event),
        timed_(use.timed),
        whole_(use.whole_devices),
        copies_in_(copies_in) {
    for (size_t place = 0; place < devices.size(); ++place) {
      const c10::impl::VirtualGuardImpl guard(devices[place].type());
      const auto stream =
          use.own_streams ? guard.getStreamFromGlobalPool(devices[place]) : shared[place];
      One one{guard, stream, {}};
      if (!use.events.empty()) {
        one.marks[kDone] = reinterpret_cast<void*>(use.events[place]);
        one.done_is_borrowed = true;
      }
      all_.push_back(one);
    }
    enter();
    try {  // a backend may have no events, or no timing
      mark(kBegin);
      end();
      wait();
      if (timed_) {
        elapsed_ns(kBegin, kEnd);
      }
    } catch (const c10::Error&) {
      timed_ = by_event_ = false;
    }
    timing_ = timed_;
  }
  CallerDevices(const CallerDevices&) = delete;
  CallerDevices& operator=(const CallerDevices&) = delete;
  ~CallerDevices() {
    for (auto& one : all_) {
      for (int mark = 0; mark < kMarks; ++mark) {
        if (one.marks[mark] != nullptr && !(mark == kDone && one.done_is_borrowed)) {
          one.guard.destroyEvent(one.marks[mark], one.stream.device_index());
        }
      }
    }
  }

  // Everything that one call enqueues, in the order of its marks.
  template <class Call, class Before>
  void issue(Call& target, int32_t input, Before before) {
    begin();
    if (copies_in_ != nullptr) {
      copy_in(input);
    }
    before();
    target.call(input);
    if (copies_in_ != nullptr) {
      called();
      outputs_.clear();
      target.output_tensors(outputs_);
      copy_out(outputs_, input);
      outputs_.clear();
    }
    end();
  }

  // The parts of it, for callers that are in Python meanwhile.
  void begin() {
    enter();  // the call before may have left another stream
    mark(kBegin);
  }
  void copy_in(int32_t input) {
    {
      const c10::InferenceMode mode;  // inputs may be inference tensors
      for (const auto& [host, device] : (*copies_in_)[input]) {
        device.copy_(host, true);
      }
    }
    mark(kCopiedIn);
  }
  void called() { mark(kCalled); }
  void copy_out(const std::vector<at::Tensor>& outputs, int32_t input) {
    const c10::InferenceMode mode;
    if (static_cast<size_t>(input) >= host_outputs_.size()) {
      host_outputs_.resize(input + 1);
    }
    auto& host = host_outputs_[input];
    host.resize(outputs.size());
    for (size_t place = 0; place < outputs.size(); ++place) {
      const auto& output = outputs[place];
      if (!host[place].defined() || host[place].sizes() != output.sizes() ||
          host[place].scalar_type() != output.scalar_type()) {
        host[place] =
            at::empty(output.sizes(), output.options().device(c10::kCPU).pinned_memory(true));
      }
      host[place].copy_(output, true);
    }
  }
  // What is waited for has a mark of its own: one that takes the time makes the wait longer.
  void end() {
    mark(kEnd);
    if (by_event_) {
      record(kDone);
    }
  }

  // Whether there is something to be enqueued at the end of a call.
  bool ends_with_mark() const { return timing_ || by_event_; }
  bool timing() const { return timing_; }
  // Whether the stages of the next call are timed; all are until this is said.
  void time_next(bool wanted) { timing_ = timed_ && wanted; }

  // Returns when the work of the call is finished.
  void wait() const {
    for (const auto& one : all_) {
      if (whole_) {
        one.guard.synchronizeDevice(one.stream.device_index());
      } else if (by_event_) {
        wait_for_event(one);
      } else {
        one.guard.synchronizeStream(one.stream);
      }
    }
  }

  // After a call that raised: what it had enqueued is finished, or known to have failed.
  void settle() const {
    try {
      for (const auto& one : all_) {
        one.guard.synchronizeStream(one.stream);
      }
    } catch (...) {  // the call raised already
    }
  }

  // The stages of a call whose work is finished, by the events around it.
  struct Stages {
    int64_t device_ns = kNoStage, copy_in_ns = kNoStage, copy_out_ns = kNoStage;
    bool lost = false;  // they cannot be had any more
  };

  Stages stages() const {
    Stages found;
    if (!timing_) {
      return found;
    }
    try {
      if (copies_in_ == nullptr) {
        found.device_ns = elapsed_ns(kBegin, kEnd);
      } else {
        found.copy_in_ns = elapsed_ns(kBegin, kCopiedIn);
        found.device_ns = elapsed_ns(kCopiedIn, kCalled);
        found.copy_out_ns = elapsed_ns(kCalled, kEnd);
      }
    } catch (...) {  // another call made the device fail since: the next one will say so
      found = Stages();
      found.lost = true;
    }
    return found;
  }

  void write(const Stages& found, const Columns& log, int64_t place) const {
    if (!timed_) {
      return;
    }
    if (found.lost) {
      log.issue_ns[place] = kNoStage;
    }
    log.device_ns[place] = found.device_ns;
    if (copies_in_ != nullptr) {
      log.copy_in_ns[place] = found.copy_in_ns;
      log.copy_out_ns[place] = found.copy_out_ns;
    }
  }

 private:
  static constexpr int kBegin = 0, kCopiedIn = 1, kCalled = 2, kEnd = 3, kDone = 4, kMarks = 5;

  struct One {
    c10::impl::VirtualGuardImpl guard;
    c10::Stream stream;
    void* marks[kMarks] = {};
    bool done_is_borrowed = false;
  };

  void wait_for_event(const One& one) const {
    const int64_t until = now_ns() + kLookNs;
    while (!one.guard.queryEvent(one.marks[kDone])) {
      if (now_ns() > until) {
        one.guard.synchronizeEvent(one.marks[kDone]);
        return;
      }
    }
  }

  // The caller's streams are the current ones, and the first device the current one.
  void enter() const {
    for (const auto& one : all_) {
      if (one.guard.getStream(one.stream.device()) != one.stream) {
        one.guard.exchangeStream(one.stream);
      }
    }
    const auto& first = all_.front();
    if (first.guard.getDevice() != first.stream.device()) {
      first.guard.setDevice(first.stream.device());
    }
  }

  void mark(int which) {
    if (timing_) {
      record(which);
    }
  }

  void record(int which) {
    for (auto& one : all_) {
      one.guard.record(&one.marks[which], one.stream, one.stream.device_index(),
                       c10::EventFlag::BACKEND_DEFAULT);
    }
  }

  int64_t elapsed_ns(int from, int to) const {
    double longest_ms = 0;
    for (const auto& one : all_) {
      longest_ms = std::max(longest_ms, one.guard.elapsedTime(one.marks[from], one.marks[to],
                                                              one.stream.device_index()));
    }
    return std::llround(longest_ms * 1e6);
  }

  std::vector<One> all_;
  bool by_event_, timed_, whole_;
  bool timing_ = true;  // of the call that it is in
  const std::vector<Copies>* copies_in_;
  std::vector<at::Tensor> outputs_;
  std::vector<std::vector<at::Tensor>> host_outputs_;
};

}  // namespace inferload
