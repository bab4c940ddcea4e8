// Which requests go into one batch, and when it is ready, as Forming in forming.py says.

#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <set>
#include <vector>

#include "clock.h"

namespace inferload {

// One request that is due: its row of the log and where that is, when it was due, and its input.
struct Request {
  int64_t row, place, due_ns;
  int32_t input;
};

class Forming {
 public:
  Forming(std::vector<int32_t> group_of, std::vector<int32_t> most_of, int64_t max_delay_ns)
      : group_of_(std::move(group_of)),
        most_of_(std::move(most_of)),
        max_delay_ns_(max_delay_ns),
        waiting_(most_of_.size()) {}

  void add(const Request& request) {
    const int32_t group = group_of_[request.input];
    waiting_[group].push_back(request);
    if (waiting_.size() > 1) {
      order_.push_back(request);
    }
    if (static_cast<int32_t>(waiting_[group].size()) == most_of_[group]) {
      full_.insert(group);
    }
  }

  // Whether the next batch is full and known: no request that is due could change it.
  bool is_settled(int64_t now) {
    const auto is_full = [&](size_t group) {
      return static_cast<int32_t>(waiting_[group].size()) >= most_of_[group];
    };
    if (waiting_.size() == 1) {
      return is_full(0);
    }
    const Request* oldest = this->oldest();
    return oldest != nullptr && oldest->due_ns + max_delay_ns_ <= now &&
           is_full(group_of_[oldest->input]);
  }

  // The batch that is ready, and since when; false if none is.
  bool take(int64_t now, std::vector<Request>& taken, int64_t& since_ns) {
    const Request* oldest = this->oldest();
    if (oldest == nullptr) {
      return false;
    }
    int32_t group = group_of_[oldest->input];
    if (oldest->due_ns + max_delay_ns_ > now) {
      if (full_.empty()) {
        return false;
      }
      group = *std::min_element(full_.begin(), full_.end(), [&](int32_t a, int32_t b) {
        return waiting_[a].front().row < waiting_[b].front().row;
      });
    }
    auto& waiting = waiting_[group];
    const auto most = static_cast<size_t>(most_of_[group]);
    const size_t count = std::min(most, waiting.size());
    const auto end = waiting.begin() + static_cast<int64_t>(count);
    taken.assign(waiting.begin(), end);
    waiting.erase(waiting.begin(), end);
    if (waiting.size() < most) {
      full_.erase(group);
    }
    since_ns = taken.front().due_ns + max_delay_ns_;
    if (count == most) {
      since_ns = std::min(since_ns, taken.back().due_ns);
    }
    return true;
  }

  // No batch has more requests than so many from now on.
  void limit_to(int32_t requests) {
    for (size_t group = 0; group < waiting_.size(); ++group) {
      most_of_[group] = std::min(most_of_[group], requests);
      if (static_cast<int32_t>(waiting_[group].size()) >= most_of_[group]) {
        full_.insert(static_cast<int32_t>(group));
      }
    }
  }

  // When the request that has waited for longest is taken, if no batch is full before.
  int64_t ready_ns() {
    const Request* oldest = this->oldest();
    return oldest == nullptr ? kNever : oldest->due_ns + max_delay_ns_;
  }

  // How many requests are missing to a full batch, where all are of one group; else 0.
  int64_t missing() const {
    if (waiting_.size() > 1) {
      return 0;
    }
    return std::max<int64_t>(most_of_[0] - static_cast<int64_t>(waiting_[0].size()), 0);
  }

 private:
  const Request* oldest() {
    if (waiting_.size() == 1) {
      return waiting_[0].empty() ? nullptr : &waiting_[0].front();
    }
    for (; !order_.empty(); order_.pop_front()) {
      const auto& waiting = waiting_[group_of_[order_.front().input]];
      if (!waiting.empty() && waiting.front().row <= order_.front().row) {
        return &order_.front();
      }
    }
    return nullptr;
  }

  const std::vector<int32_t> group_of_;
  std::vector<int32_t> most_of_;
  const int64_t max_delay_ns_;
  std::vector<std::deque<Request>> waiting_;  // of each group
  std::deque<Request> order_;                 // all of them, those that were taken among them
  std::set<int32_t> full_;
};

}  // namespace inferload
