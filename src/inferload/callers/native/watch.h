// Open loop: who watches for the next due call.
//
// Calls are taken in the order of their due times by whichever caller is free: a caller takes
// the next row and watches the clock until the row is due. Only so many callers watch at a time
// (one a core: a watcher spins in the end); the others are parked. Waking a thread costs
// microseconds, so a caller that begins a call leaves that to another watcher, which has time
// while it spins, and wakes one itself only where nobody else watches.

#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "claims.h"
#include "clock.h"
#include "ending.h"
#include "job.h"

namespace inferload {

// How long before a call is due its caller stops sleeping and looks at the clock instead: longer
// where sleeps have lately lasted too long by more, as they do on virtual machines.
constexpr int64_t kLeastSpinNs = 100'000;
constexpr int64_t kMostSpinNs = 500'000;
// How soon a caller that sleeps sees that the run was stopped.
constexpr int64_t kStopPollNs = 50'000'000;
// A caller that began a call is given so long to be back before a parked one is woken in its place.
constexpr int64_t kShortCallNs = 20'000;
// In the last stretch before a due time a watcher keeps its core.
constexpr int64_t kYieldNs = 2'000;

// How long to look at the clock, from how much too long the sleeps of a caller lasted: a quarter
// more than the longest, which counts for one percent less with every sleep since.
struct Spin {
  int64_t longest_ns = 0;

  void slept(int64_t too_long_ns) {
    longest_ns = std::max(too_long_ns, longest_ns - longest_ns / 100);
  }
  int64_t ns() const { return std::clamp(longest_ns + longest_ns / 4, kLeastSpinNs, kMostSpinNs); }
};

class Watch {
 public:
  static constexpr int64_t kNoRow = -1;

  Watch(const Job& job, Claims& claims, Ending& ending)
      : job_(job), claims_(claims), ending_(ending), end_row_(job.rows) {}

  // The next row, whose call is to be watched for; or that there is none.
  int64_t take_row() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (watching_ >= job_.watchers && claims_.next_row() < end_row_ && !ending_.stopped()) {
      ++parked_;
      may_watch_.wait(lock);
      --parked_;
      waking_ = false;
    }
    const int64_t row = claims_.next_row();
    if (row >= end_row_ || ending_.stopped()) {
      may_watch_.notify_all();
      return kNoRow;
    }
    claims_.take(row);
    ++watching_;
    return row;
  }

  // Watch until a taken row is due; false if the run ends before. One that was due before it was
  // taken has queued, and is not begun after the drain limit.
  bool wait_until(int64_t due, int64_t row, Spin& spin) {
    // With more callers than cores, one that is in its call may stand behind a watcher that spins.
    const bool others_wait = job_.callers > job_.watchers;
    int64_t now = now_ns(), unwatched_since = kNever;
    const bool queued = now >= due;
    while (now < due) {
      if (ending_.stopped() || row >= end_row_.load(std::memory_order_relaxed)) {
        return false;
      }
      if (due - now > spin.ns()) {
        const int64_t until = std::min(due - spin.ns(), now + kStopPollNs);
        sleep_until(until);
        spin.slept(now_ns() - until);
      } else if (watching_.load(std::memory_order_relaxed) == job_.watchers) {
        unwatched_since = kNever;
      } else if (unwatched_since == kNever) {
        unwatched_since = now;
      } else if (now - unwatched_since > kShortCallNs) {
        wake_one();
      }
      if (others_wait && due - now > kYieldNs) {
        sched_yield();
      }
      now = now_ns();
    }
    return queued ? now <= ending_.limit_ns() : !ending_.stopped();
  }

  // A caller begins the call that it has watched for.
  void leave() {
    if (watching_.fetch_sub(1) == 1 && job_.callers > job_.watchers) {
      // with the lock: a caller that is about to be parked has seen this one watch
      std::lock_guard<std::mutex> lock(mutex_);
      notify_one_parked();
    }
  }

  // Take no more calls than are due by now; those are finished within the drain limit.
  void end_at(int64_t rows) {
    std::lock_guard<std::mutex> lock(mutex_);
    end_row_ = std::min(rows, end_row_.load());
    ending_.set_limit(now_ns() + job_.drain_ns);
    may_watch_.notify_all();
  }

  void wake_all() {
    std::lock_guard<std::mutex> lock(mutex_);
    may_watch_.notify_all();
  }

 private:
  void wake_one() {
    if (parked_.load(std::memory_order_relaxed) > 0 && !waking_.load(std::memory_order_relaxed)) {
      std::lock_guard<std::mutex> lock(mutex_);  // so that whoever is counted does wait
      notify_one_parked();
    }
  }

  void notify_one_parked() {
    if (parked_ > 0 && !waking_.exchange(true)) {
      may_watch_.notify_one();
    }
  }

  const Job& job_;
  Claims& claims_;
  Ending& ending_;
  alignas(64) std::mutex mutex_;
  std::condition_variable may_watch_;
  std::atomic<int64_t> end_row_;
  std::atomic<int32_t> watching_{0};
  std::atomic<int32_t> parked_{0};
  std::atomic<bool> waking_{false};
};

}  // namespace inferload
