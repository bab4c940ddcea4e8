// When requests are due: by a schedule, or when clients have thought about the last answer.

#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "clock.h"
#include "job.h"

namespace inferload {

class Requests {
 public:
  Requests(const Job& job, const Memory& memory) : job_(job), memory_(memory) {}

  void begin(int64_t start_ns) {
    start_ns_ = start_ns;
    for (const int64_t first : job_.clients_first_ns) {
      due_.push(start_ns + first);
    }
  }

  bool of_clients() const { return !job_.clients_first_ns.empty(); }

  // When the request of this row is due, the next one that was not taken, or one so many after it;
  // never if that is not known.
  int64_t due_ns(int64_t row, int64_t ahead = 0) const {
    if (of_clients()) {
      return due_.empty() || ahead > 0 ? kNever : due_.top();
    }
    row += ahead;
    if (row >= job_.rows) {
      return kNever;
    }
    const int64_t size = memory_.schedule_size;
    return row < size ? start_ns_ + memory_.schedule_ns[row]
                      : start_ns_ + memory_.schedule_ns[row % size] + row / size * job_.period_ns;
  }

  // The next request was taken.
  void taken() {
    if (of_clients()) {
      due_.pop();
    }
  }

  // So many requests were answered: their clients think.
  void returned(int64_t count, int64_t finished_ns) {
    const auto size = static_cast<int64_t>(job_.think_ns.size());
    for (int64_t i = 0; i < count; ++i) {
      due_.push(finished_ns + job_.think_ns[returned_++ % size]);
    }
  }

 private:
  const Job& job_;
  const Memory& memory_;
  int64_t start_ns_ = 0, returned_ = 0;
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> due_;
};

}  // namespace inferload
