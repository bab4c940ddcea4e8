// When callers stop.

#pragma once

#include <atomic>
#include <cstdint>

#include "clock.h"

namespace inferload {

class Ending {
 public:
  // A call that finishes later than this is the caller's last one: the deadline, never, or 0 for
  // "stop".
  int64_t limit_ns() const { return limit_ns_.load(std::memory_order_relaxed); }
  bool stopped() const { return limit_ns() == 0; }

  // When the run was stopped; 0 if it was not.
  int64_t stopped_ns() const { return stopped_ns_.load(); }

  // All callers end with the call they are in. A limit set meanwhile must not undo it: whoever
  // sets one looks at stopped_ns afterwards.
  void end_now() {
    int64_t never = 0;
    stopped_ns_.compare_exchange_strong(never, now_ns());
    limit_ns_.store(0);
  }

  void set_limit(int64_t limit) {
    limit_ns_.store(limit);
    if (stopped_ns_.load() != 0) {
      limit_ns_.store(0);
    }
  }

 private:
  alignas(64) std::atomic<int64_t> limit_ns_{kNever};
  std::atomic<int64_t> stopped_ns_{0};
};

}  // namespace inferload
