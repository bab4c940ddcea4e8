// The queue of requests that callers serve, and which of the free ones forms the next batch.
//
// Free callers form batches in turn. Only so many watch at a time, one a core, because whoever
// watches spins in the end: the one whose turn it is until its batch is ready, the others until it
// is their turn; the rest are parked. As with single calls (watch.h), a caller that begins a call
// leaves it to another watcher to wake a parked one, which has time for that.

#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <queue>
#include <vector>

#include "claims.h"
#include "clock.h"
#include "ending.h"
#include "forming.h"
#include "job.h"
#include "requests.h"
#include "watch.h"

namespace inferload {

// Where the log has no room, it is looked at again so much later.
constexpr int64_t kHeldUpNs = 1'000'000;
// Whoever waits for its turn keeps its core from so long before the batch before it is ready.
constexpr int64_t kStandbySpinNs = 30'000;

// The requests of one call of the model: it was ready, and a caller was free for it, at these
// times.
struct Batch {
  int64_t number = 0;
  std::vector<Request> requests;
  int64_t ready_ns = 0, free_ns = 0;
};

class RequestQueue {
 public:
  RequestQueue(const Job& job, const Memory& memory, const std::vector<int32_t>& order,
               Claims& claims, Ending& ending)
      : job_(job),
        memory_(memory),
        order_(order),
        claims_(claims),
        ending_(ending),
        requests_(job, memory),
        forming_(job.group_of, job.most_of, job.max_delay_ns),
        end_row_(job.rows) {}

  void begin(int64_t start_ns) {
    std::lock_guard<std::mutex> lock(mutex_);
    requests_.begin(start_ns);
  }

  // The next batch for a caller that has been free since then, when it is ready; false: the run is
  // over. What was due before it was taken has queued, and is not begun after the drain limit.
  bool next(Batch& batch, int64_t free_since_ns, Spin& spin) {
    std::unique_lock<std::mutex> lock(mutex_);
    free_.push(free_since_ns);
    while (watching_ >= job_.watchers && !over()) {
      ++parked_;
      may_watch_.wait(lock);
      --parked_;
      waking_ = false;
    }
    ++watching_;
    const int64_t turn = turns_++;
    const bool found = form(batch, turn, lock, spin);
    --watching_;
    serving_.store(std::max(serving_.load(), turn + 1));
    changed_.notify_all();
    if (!found) {
      may_watch_.notify_all();
    } else if (watching_ == 0) {
      wake_one();
    }
    return found;
  }

  // So many requests were answered; only clients ask again.
  void returned(int64_t count, int64_t finished_ns) {
    if (!requests_.of_clients()) {
      return;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    requests_.returned(count, finished_ns);
    ++version_;
    changed_.notify_all();
  }

  // There was no memory for a batch: from now on none has more requests than so many.
  void limit_to(int64_t requests) {
    std::lock_guard<std::mutex> lock(mutex_);
    forming_.limit_to(static_cast<int32_t>(requests));
    limited_to_ = limited_to_ == 0 ? requests : std::min(limited_to_, requests);
  }
  int64_t limited_to() {
    std::lock_guard<std::mutex> lock(mutex_);
    return limited_to_;
  }

  // Open loop: take no more requests than are due by now; those have the drain time.
  void end_at(int64_t rows) {
    std::lock_guard<std::mutex> lock(mutex_);
    end_row_ = std::min(rows, end_row_);
    ending_.set_limit(now_ns() + job_.drain_ns);
    notify_all();
  }

  void wake_all() {
    std::lock_guard<std::mutex> lock(mutex_);
    notify_all();
  }

 private:
  void notify_all() {
    ++version_;
    may_watch_.notify_all();
    changed_.notify_all();
  }

  bool over() const { return ended_ || ending_.stopped(); }

  // With the lock: wait for the turn, and then for a batch.
  bool form(Batch& batch, int64_t turn, std::unique_lock<std::mutex>& lock, Spin& spin) {
    bool waited = false;
    int64_t unwatched_since = kNever;
    while (!over()) {
      const int64_t now = now_ns();
      const bool mine = serving_.load() == turn;
      if (mine) {
        if (now > ending_.limit_ns() && (!waited || requests_.of_clients())) {
          ended_ = true;
          return false;
        }
        if (take(batch, now)) {
          return true;
        }
        until_ns_ = look_again_ns(now);
        if (until_ns_ == kNever && (no_more_ || !requests_.of_clients())) {
          ended_ = true;
          return false;
        }
        waited = true;
      }
      if (watching_ < job_.watchers && parked_ > 0 && !waking_) {
        if (unwatched_since == kNever) {
          unwatched_since = now;
        }
        if (now - unwatched_since > kShortCallNs || until_ns_ - now > kMostSpinNs) {
          wake_one();
        }
      }
      wait(until_ns_, turn, mine, lock, spin);
    }
    return false;
  }

  // Returns at a time, or before it where there is something new to be seen. Whose turn it is not
  // waits for that, from shortly before the time without letting go of its core.
  void wait(int64_t until, int64_t turn, bool mine, std::unique_lock<std::mutex>& lock,
            Spin& spin) {
    const int64_t now = now_ns(), spin_ns = mine ? spin.ns() : kStandbySpinNs;
    const bool missed = !mine && until <= now;
    if (missed || until - now > spin_ns) {
      const int64_t most = std::min(missed ? kNever : until - spin_ns, now + kStopPollNs);
      const auto at = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(most));
      if (changed_.wait_until(lock, at) == std::cv_status::timeout && mine) {
        spin.slept(now_ns() - most);
      }
      return;
    }
    const int64_t version = version_.load(), to = mine ? until : until + kShortCallNs;
    const bool others_wait = job_.callers > job_.watchers;
    lock.unlock();
    for (int64_t time = now; time < to && !ending_.stopped(); time = now_ns()) {
      if (version_.load(std::memory_order_relaxed) != version ||
          (!mine && serving_.load(std::memory_order_relaxed) == turn)) {
        break;
      }
      if (others_wait && to - time > kYieldNs) {
        sched_yield();
      }
    }
    lock.lock();
  }

  bool take(Batch& batch, int64_t now) {
    admit_due(now);
    if (!forming_.take(now, batch.requests, batch.ready_ns)) {
      return false;
    }
    batch.number = batches_++;
    batch.free_ns = free_.top();  // whoever takes it: somebody could have since then
    free_.pop();
    return true;
  }

  void admit_due(int64_t now) {
    held_up_ = false;
    int64_t row = claims_.next_row();
    const auto size = static_cast<int64_t>(order_.size());
    int64_t drawn = row % size, place = row % job_.room;
    // of a long backlog no more than the next batch needs
    for (; row < end_row_ && !no_more_ && !forming_.is_settled(now); ++row, ++drawn, ++place) {
      const int64_t due = requests_.due_ns(row);
      if (due > now) {
        break;
      }
      if (!claims_.has_room(row)) {
        held_up_ = true;
        break;
      }
      if (!claims_.reserve(row + 1) ||
          (memory_.budget != nullptr && take_calls(memory_.budget, 1, job_.callers_in_all) == 0)) {
        no_more_ = true;
        break;
      }
      drawn = drawn == size ? 0 : drawn;
      place = place == job_.room ? 0 : place;
      forming_.add({row, place, due, order_[drawn]});
      requests_.taken();
      claims_.take(row);
    }
    no_more_ = no_more_ || row >= end_row_;
  }

  // When there may be a batch next, after there was none at this time.
  int64_t look_again_ns(int64_t now) {
    int64_t due = held_up_ ? now + kHeldUpNs : kNever;
    const int64_t ready = forming_.ready_ns();
    if (!held_up_ && !no_more_) {
      due = requests_.due_ns(claims_.next_row());
      const int64_t missing = ready == kNever ? 0 : forming_.missing();
      if (missing > 0) {  // nobody has to look before the batch is full
        const int64_t full = requests_.due_ns(claims_.next_row(), missing - 1);
        due = full == kNever ? due : full;
      }
    }
    return std::min(ready, due);
  }

  void wake_one() {
    if (parked_ > 0 && !waking_) {
      waking_ = true;
      may_watch_.notify_one();
    }
  }

  const Job& job_;
  const Memory& memory_;
  const std::vector<int32_t>& order_;
  Claims& claims_;
  Ending& ending_;
  Requests requests_;
  Forming forming_;
  int64_t end_row_, batches_ = 0, limited_to_ = 0;
  bool no_more_ = false, held_up_ = false, ended_ = false;
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> free_;

  alignas(64) std::mutex mutex_;
  std::condition_variable may_watch_, changed_;
  int32_t watching_ = 0, parked_ = 0;
  bool waking_ = false;
  int64_t turns_ = 0, until_ns_ = 0;
  alignas(64) std::atomic<int64_t> serving_{0};
  std::atomic<int64_t> version_{0};
};

}  // namespace inferload
