// What one caller does: warm up, wait at the line, call.

#pragma once

#include <ATen/Parallel.h>
#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "batch_caller.h"
#include "clock.h"
#include "counter.h"
#include "run.h"

namespace inferload {

// A range of rows is claimed for about so long.
constexpr int64_t kBlockNs = 1'000'000;
// How many warm-up calls of each caller are timed.
constexpr size_t kFirstCalls = 10;

template <class Call>
class Caller {
 public:
  template <class Model>
  Caller(Run& run, Model& model, int32_t number)
      : run_(run),
        log_(run.log),
        number_(number),
        on_(opened()),
        // whoever waits for due times goes by the clock
        counter_(run.open_loop() || run.queued() ? 0 : run.pace),
        target_(model, number),
        keeper_(run.notes[number], run.job.kept_outputs),
        gathering_(run.gather_plan == nullptr
                       ? nullptr
                       : std::make_unique<Gathering>(*run.gather_plan, number)),
        batches_(run, number, target_, on_.get(), gathering_.get(), keeper_) {}

  void run() {
    const bool warm = opened_ && warm_up();
    const bool released = run_.line.arrive();
    while (released && !run_.open_loop() && !run_.queued() && now_ns() < run_.line.start_ns()) {
      sched_yield();  // until a time that several processes agreed on
    }
    const int64_t before = run_delay_ns();
    counter_.begin();
    if (released && warm) {
      if (run_.queued()) {
        batches_.call_all();
      } else {
        on_ != nullptr ? measure<true>() : measure<false>();
      }
      const int64_t delay = run_delay_ns() - before;
      run_.notes[number_].write([&](Notes& notes) {
        notes.run_delay_ns = delay;
        notes.by_counter = counter_.counts();
        notes.counter_off_ns = counter_.most_off_ns();
      });
    }
  }

 private:
  std::unique_ptr<CallerDevices> opened() {
    try {
      return run_.open_devices(number_);
    } catch (...) {  // a device that failed before
      opened_ = false;
      run_.record(number_, 0, true);
      run_.stop();
      return nullptr;
    }
  }

  bool warm_up() {
    const auto& job = run_.job;
    for (int64_t n = 0; n < job.warmup_calls && !run_.ending.stopped(); ++n) {
      const int32_t input = job.warmup_order[n % job.warmup_order.size()];
      const int64_t started = now_ns();
      try {
        if (gathering_ != nullptr) {
          batches_.call_example(input);
        } else if (on_ != nullptr) {
          on_->issue(target_, input, [] {});
          on_->wait();
        } else {
          target_.call(input);
        }
      } catch (...) {
        if (on_ != nullptr) {
          on_->settle();
        }
        // When errors are recorded, only those of measured calls count.
        if (job.stop_on_error) {
          run_.record(number_, input, true);
          run_.stop();
          return false;
        }
      }
      if (n < static_cast<int64_t>(kFirstCalls)) {
        const int64_t took = now_ns() - started;
        run_.notes[number_].write([&](Notes& notes) { notes.first_calls_ns.push_back(took); });
      }
      target_.release();
    }
    return true;
  }

  template <bool kOnDevice>
  void measure() {
    run_.open_loop() ? call_when_due<kOnDevice>() : call_at_once<kOnDevice>();
  }

  // Closed loop: ranges of rows, one after another.
  template <bool kOnDevice>
  void call_at_once() {
    const auto order_length = static_cast<int64_t>(run_.order.size());
    int64_t in_a_while = 1, ended = 0;
    for (auto [row, end] = run_.claims.claim(1); row != end;
         std::tie(row, end) = run_.claims.claim(in_a_while)) {
      const int64_t first = row % run_.job.room, after = first + (end - row);
      int64_t drawn = row % order_length, began = 0;
      counter_.put_right(ended);
      for (int64_t place = first; place != after; ++place) {
        const int32_t input = run_.order[drawn];
        if (++drawn == order_length) {
          drawn = 0;
        }
        const auto [started, finished] = make_call<kOnDevice>(input, place, kNever);
        if (place == first) {
          began = started;
        }
        ended = finished;
        if (finished > run_.ending.limit_ns()) {
          return;
        }
      }
      // not from the log: whoever reads it may have cleared the rows already
      const bool fast = ended - began < kBlockNs;
      in_a_while = std::clamp<int64_t>(fast ? 2 * in_a_while : in_a_while / 2, 1, kBlockRows);
    }
  }

  // Open loop: the next row whenever free, when it is due.
  template <bool kOnDevice>
  void call_when_due() {
    const auto order_length = static_cast<int64_t>(run_.order.size());
    const int64_t start_ns = run_.line.start_ns();
    auto& watch = run_.watch;
    Spin spin;
    prctl(PR_SET_TIMERSLACK, 1);
    for (int64_t row = watch.take_row(); row != Watch::kNoRow; row = watch.take_row()) {
      const int64_t place = row % run_.job.room, due = run_.due_ns(row, start_ns);
      const int32_t input = run_.order[row % order_length];
      const bool go = run_.claims.wait_for_room(row) && run_.claims.reserve(row + 1);
      if (go) {
        name_row(input, place);
      }
      const bool is_due = go && watch.wait_until(due, row, spin);
      watch.leave();
      if (!is_due) {
        break;
      }
      make_call<kOnDevice>(input, place, due);
    }
    watch.wake_all();
  }

  void name_row(int32_t input, int64_t place) {
    log_.caller[place] = number_;
    log_.input[place] = input;
  }

  // One call: its row, its stamps, its error. Returns when it started and finished.
  template <bool kOnDevice>
  inline std::pair<int64_t, int64_t> make_call(int32_t input, int64_t place, int64_t due) {
    int32_t error = -1;
    int64_t finished, issued = 0;
    if (due == kNever) {
      name_row(input, place);
    }
    const int64_t started = counter_.now();
    log_.scheduled_ns[place] = due == kNever ? started : due;
    log_.start(place, started);
    try {
      if constexpr (kOnDevice) {
        on_->issue(target_, input, [] {});
        issued = counter_.now();
        on_->wait();
      } else {
        target_.call(input);
      }
      finished = counter_.now();
    } catch (...) {
      if constexpr (kOnDevice) {
        on_->settle();
      }
      finished = counter_.now();
      error = run_.record(number_, input, false);
      if (run_.job.stop_on_error) {
        run_.stop();
      }
    }
    log_.error[place] = error;
    if constexpr (kOnDevice) {
      log_.issue_ns[place] = error < 0 ? issued - started : 0;
      if (error < 0) {
        on_->write(on_->stages(), log_, place);
      }
    }
    log_.finish(place, finished);
    if (error < 0) {
      keeper_.look(target_, input);
    }
    target_.release();
    return {started, finished};
  }

  Run& run_;
  const Columns log_;
  const int32_t number_;
  bool opened_ = true;
  const std::unique_ptr<CallerDevices> on_;
  Counter counter_;
  Call target_;
  Keeper<Call> keeper_;
  const std::unique_ptr<Gathering> gathering_;
  BatchCaller<Call> batches_;
};

// The thread of a caller.
template <class Call, class Model>
void run_caller(Run& run, Model& model, int32_t number) {
  const auto& given = run.job.cpus;
  const auto cpus =
      hold_to_cpus(static_cast<size_t>(number) < given.size() ? given[number] : std::vector<int>());
  run.calling_thread.take_over();
  at::set_num_threads(run.job.threads_per_call);
  const int threads = at::get_num_threads();
  run.notes[number].write([&](Notes& notes) {
    notes.cpus = cpus;
    notes.threads = threads;
  });
  Caller<Call>(run, model, number).run();
  run.line.leave();
}

}  // namespace inferload
