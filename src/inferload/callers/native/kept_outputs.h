// What a caller tells beside its calls, copies of some of its outputs among it.

#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "clock.h"
#include "splitting.h"

namespace inferload {

// One output that a caller kept: which of its inputs it belongs to, and what was returned.
struct Kept {
  int32_t input;
  std::vector<c10::IValue> outputs;
};

struct Notes {
  std::vector<int64_t> first_calls_ns;
  int64_t run_delay_ns = 0;
  bool by_counter = false;  // whether its stamps were to the end, and how far off they were
  int64_t counter_off_ns = -1;
  std::vector<int> cpus;  // that it may run on, and its intra-op threads, as they are
  int threads = 0;
  std::vector<Kept> kept;
};

// The notes of one caller. A run that is given up is reported while its callers still write.
class alignas(64) CallerNotes {
 public:
  template <class Write>
  void write(Write write) {
    std::lock_guard<std::mutex> lock(mutex_);
    write(notes_);
  }

  template <class Value>
  Value read(Value Notes::* of) const {
    std::lock_guard<std::mutex> lock(mutex_);
    return notes_.*of;
  }

 private:
  mutable std::mutex mutex_;
  Notes notes_;
};

// Copies some outputs of one caller: every call's at first; when there is no more room, every
// second one is dropped and only every second call is copied from then on.
template <class Call>
class Keeper {
 public:
  Keeper(CallerNotes& notes, int64_t room)
      : notes_(notes), room_(static_cast<size_t>(room)), next_(room > 0 ? 0 : kNever) {}

  void look(const Call& target, int32_t input) {
    if (calls_++ == next_) {
      keep(input, [&] { return target.copy_outputs(); });
    }
  }

  // The same of a request that got some of a batch.
  void look_at_piece(const Call& target, int32_t input, const Share& share) {
    if (calls_++ == next_) {
      keep(input, [&] { return target.copy_piece(share); });
    }
  }

 private:
  template <class Copy>
  void keep(int32_t input, Copy copy) {
    next_ += stride_;
    Kept one{input, {}};
    try {
      one.outputs = copy();
    } catch (...) {  // an output that cannot be copied: Python says so
    }
    notes_.write([&](Notes& notes) {
      auto& kept = notes.kept;
      kept.push_back(std::move(one));
      if (kept.size() == room_) {
        for (size_t i = 1; 2 * i < kept.size(); ++i) {
          kept[i] = std::move(kept[2 * i]);
        }
        kept.resize((room_ + 1) / 2);
        stride_ *= 2;
        next_ = (calls_ + stride_ - 1) / stride_ * stride_;
      }
    });
  }

  CallerNotes& notes_;
  size_t room_;
  int64_t calls_ = 0, stride_ = 1, next_;
};

}  // namespace inferload
