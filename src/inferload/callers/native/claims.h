// Which rows of the log are whose: ranges for a closed loop, disk space, and the ring.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>

#include "clock.h"
#include "ending.h"
#include "job.h"
#include "log_columns.h"

namespace inferload {

// Claims some of the calls left to several queues or processes: a fair share among so many callers,
// at least 1; 0 if none are left. Budget.take in budget.py does the same.
inline int64_t take_calls(int64_t* budget, int64_t most, int64_t among) {
  int64_t left = __atomic_load_n(budget, __ATOMIC_RELAXED), taken;
  do {
    taken = std::max<int64_t>(std::min({std::max<int64_t>(left / (4 * among), 1), most, left}), 0);
  } while (taken > 0 && !__atomic_compare_exchange_n(budget, &left, left - taken, true,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return taken;
}

class Claims {
 public:
  using Range = std::pair<int64_t, int64_t>;

  Claims(const Job& job, int64_t* budget, Ending& ending)
      : job_(job), budget_(budget), ending_(ending), reserved_rows_(job.reserved_rows) {}

  // The next range of rows for a caller; an empty one if there are no more. Ranges shrink towards
  // the end (guided self-scheduling, Polychronopoulos & Kuck 1987), so that the count is met
  // exactly, nobody waits for one caller's long range, and the counter is rarely touched.
  // Where the number of calls is open, a caller claims as many as it makes in about 1 ms, so that
  // slow calls take their inputs in order and fast ones rarely touch the counter.
  Range claim(int64_t in_a_while) {
    if (budget_ != nullptr) {
      return claim_of_budget(in_a_while);
    }
    int64_t begin = next_row();
    int64_t end;
    do {
      const int64_t left = job_.rows - begin;
      if (left <= 0 || ending_.stopped() || !wait_for_room(begin)) {
        return {0, 0};
      }
      const int64_t fair = job_.open_ended ? in_a_while : left / (4 * job_.callers);
      end = begin + std::clamp<int64_t>(fair, 1, std::min({kBlockRows, left, unbroken(begin)}));
    } while (!next_row_.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    return reserve(end) ? Range(begin, end) : Range(0, 0);
  }

  // Open loop: calls are taken one by one, under a lock of those who take them.
  int64_t next_row() const { return next_row_.load(std::memory_order_relaxed); }
  void take(int64_t row) { next_row_.store(row + 1, std::memory_order_relaxed); }

  // The log is a ring: wait until the row that stood in this row's place has been read.
  bool wait_for_room(int64_t row) {
    while (row >= folded_rows_.load(std::memory_order_acquire) + job_.room) {
      log_was_full_.store(true, std::memory_order_relaxed);
      // past the end of the run too: a caller that has ended may have left rows that never finish
      const int64_t now = now_ns();
      if (now > ending_.limit_ns()) {
        return false;
      }
      sleep_until(now + 1'000'000);
    }
    return true;
  }

  bool has_room(int64_t row) {
    if (row < folded_rows_.load(std::memory_order_acquire) + job_.room) {
      return true;
    }
    log_was_full_.store(true, std::memory_order_relaxed);
    return false;
  }

  // Disk space before use: a page of the map with no disk behind it would end the process.
  bool reserve(int64_t rows) {
    rows = std::min(rows, job_.room);
    if (rows <= reserved_rows_.load(std::memory_order_acquire)) {
      return true;
    }
    std::lock_guard<std::mutex> lock(reserve_mutex_);
    while (reserved_rows_ < rows) {
      const int64_t to = std::min(reserved_rows_ + job_.growth_rows, job_.room);
      if (reserve_rows(job_.log_fd, job_.room, reserved_rows_, to, job_.optional) != 0) {
        disk_full_ = true;
        ending_.end_now();
        return false;
      }
      reserved_rows_.store(to, std::memory_order_release);
    }
    return true;
  }

  // Rows before this have been read and may be written again.
  void fold_to(int64_t rows) { folded_rows_.store(rows, std::memory_order_release); }

  // Rows without disk space behind them may not even be read: that alone can end the process.
  int64_t claimed_rows() const {
    const int64_t reserved = reserved_rows_.load(std::memory_order_acquire);
    const int64_t rows = std::min(next_row(), job_.rows);
    return reserved < job_.room ? std::min(rows, reserved) : rows;
  }

  bool log_was_full() const { return log_was_full_.load(std::memory_order_relaxed); }
  bool disk_full() const { return disk_full_.load(); }

 private:
  // The same where other processes take from the same calls: their number decides, and the rows of
  // this log are taken under the lock, which a range of calls is long enough for.
  Range claim_of_budget(int64_t in_a_while) {
    std::unique_lock<std::mutex> lock(budget_mutex_);
    const int64_t begin = next_row();
    if (begin >= job_.rows || ending_.stopped() || !wait_for_room(begin)) {
      return {0, 0};
    }
    const int64_t most = std::min({in_a_while, kBlockRows, job_.rows - begin, unbroken(begin)});
    const int64_t taken = take_calls(budget_, most, job_.callers_in_all);
    if (taken == 0) {
      return {0, 0};
    }
    next_row_.store(begin + taken, std::memory_order_relaxed);
    lock.unlock();
    return reserve(begin + taken) ? Range(begin, begin + taken) : Range(0, 0);
  }

  // How many rows from this one on lie side by side in the ring and are free.
  int64_t unbroken(int64_t row) const {
    const int64_t free = folded_rows_.load(std::memory_order_acquire) + job_.room - row;
    return std::min(job_.room - row % job_.room, free);
  }

  const Job& job_;
  int64_t* const budget_;  // the calls left to all processes, or null
  Ending& ending_;
  alignas(64) std::atomic<int64_t> next_row_{0};
  alignas(64) std::mutex budget_mutex_;
  alignas(64) std::mutex reserve_mutex_;
  std::atomic<int64_t> reserved_rows_;
  std::atomic<bool> disk_full_{false};
  alignas(64) std::atomic<int64_t> folded_rows_{0};
  std::atomic<bool> log_was_full_{false};
};

}  // namespace inferload
