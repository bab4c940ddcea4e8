// Where callers wait until all have warmed up, and where the one who started them waits for them.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "ending.h"

namespace inferload {

class StartLine {
 public:
  StartLine(int32_t callers, const Ending& ending) : callers_(callers), ending_(ending) {}

  // Stand at the line; whether it was opened, rather than the run stopped.
  bool arrive() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++at_line_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return released_ || ending_.stopped(); });
    return released_;
  }

  // What no caller may do anything after.
  void leave() {
    std::lock_guard<std::mutex> lock(mutex_);
    ++finished_;
    changed_.notify_all();
  }

  void open(int64_t start_ns) {
    std::lock_guard<std::mutex> lock(mutex_);
    start_ns_ = start_ns;
    released_ = true;
    changed_.notify_all();
  }

  void wake() {
    std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_all();
  }

  // For those for whom the line was opened.
  int64_t start_ns() const { return start_ns_; }

  bool wait_ready(double timeout_s) {
    return wait(timeout_s, [&] { return at_line_ == callers_; });
  }
  bool wait_done(double timeout_s) {
    return wait(timeout_s, [&] { return finished_ == callers_; });
  }

 private:
  template <class Condition>
  bool wait(double timeout_s, Condition condition) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::duration<double>(timeout_s), condition);
  }

  const int32_t callers_;
  const Ending& ending_;
  alignas(64) std::mutex mutex_;
  std::condition_variable changed_;
  int64_t start_ns_ = 0;
  bool released_ = false;
  int32_t at_line_ = 0;
  int32_t finished_ = 0;
};

}  // namespace inferload
