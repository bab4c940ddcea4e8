// What a caller does with a queue: takes a batch, calls once, writes the rows of all its requests.

#pragma once

#include <sys/prctl.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "caller_devices.h"
#include "clock.h"
#include "gathering.h"
#include "kept_outputs.h"
#include "run.h"
#include "splitting.h"

namespace inferload {

template <class Call>
class BatchCaller {
 public:
  // Without `gathering` each request is called alone, with its own input.
  BatchCaller(Run& run, int32_t number, Call& target, CallerDevices* on, Gathering* gathering,
              Keeper<Call>& keeper)
      : run_(run),
        log_(run.log),
        number_(number),
        target_(target),
        on_(on),
        gathering_(gathering),
        keeper_(keeper) {}

  void call_all() {
    Batch batch;
    Spin spin;
    prctl(PR_SET_TIMERSLACK, 1);
    int64_t free_ns = run_.line.start_ns();
    while (run_.queue.next(batch, free_ns, spin)) {
      free_ns = call(batch);
      run_.queue.returned(static_cast<int64_t>(batch.requests.size()), free_ns);
      if (run_.ending.stopped()) {
        break;
      }
    }
    run_.queue.wake_all();
  }

  // A warm-up call: puts an example of this shape together, and calls.
  void call_example(int32_t shape) {
    gathering_->choose_example(shape);
    make(shape);
    target_.release();
  }

 private:
  // Returns when it finished.
  int64_t call(const Batch& batch) {
    const auto count = static_cast<int32_t>(batch.requests.size());
    int32_t shape = batch.requests.front().input, error = -1;
    name_rows(batch);
    if (gathering_ != nullptr) {
      shape = gathering_->choose(batch.requests);
      const int32_t padding = gathering_->padding_ppm();
      for (const auto& request : batch.requests) {
        const int64_t place = request.place;
        log_.batch[place] = static_cast<int32_t>(batch.number);
        log_.batch_size[place] = count;
        log_.padding_ppm[place] = padding;
      }
    }
    const int64_t started = now_ns();
    for (const auto& request : batch.requests) {
      log_.start(request.place, started);
    }
    int64_t finished;
    issued_ns_ = gather_ns_ = 0;
    try {
      make(shape);
      if (gathering_ != nullptr) {
        take_apart();
      }
      finished = now_ns();
    } catch (...) {
      if (on_ != nullptr) {
        on_->settle();
      }
      finished = now_ns();
      error = run_.record(number_, batch.requests.front().input, false, count);
      if (run_.job.stop_on_error) {
        run_.stop();
      }
    }
    write(batch, error, started, finished);
    if (error < 0) {
      keep(batch);
    }
    pieces_.clear();
    outputs_.clear();
    target_.release();
    return finished;
  }

  void name_rows(const Batch& batch) {
    for (const auto& request : batch.requests) {
      const int64_t place = request.place;
      log_.caller[place] = number_;
      log_.input[place] = request.input;
      log_.scheduled_ns[place] = request.due_ns;
    }
  }

  void make(int32_t shape) {
    const bool gathers = gathering_ != nullptr;
    if (gathers && (on_ == nullptr || gathering_->before())) {
      gather();
    }
    if (on_ == nullptr) {
      target_.call(shape);
      return;
    }
    on_->issue(target_, shape, [&] {
      if (gathers && !gathering_->before()) {
        gather();
      }
    });
    issued_ns_ = now_ns();
    on_->wait();
  }

  void gather() {
    const int64_t began = now_ns();
    gathering_->gather();
    gather_ns_ = now_ns() - began;
  }

  void take_apart() {
    if (gathering_->by_entry()) {
      check_entries(target_.entries(gathering_->size()), gathering_->size());
      return;
    }
    target_.output_tensors(outputs_);
    pieces_.take_apart(outputs_, gathering_->counts(), gathering_->size());
  }

  void write(const Batch& batch, int32_t error, int64_t started, int64_t finished) {
    CallerDevices::Stages stages;
    if (on_ != nullptr && error < 0) {
      stages = on_->stages();
    }
    const int64_t held_to = std::min(std::max(batch.ready_ns, batch.free_ns), started);
    for (const auto& request : batch.requests) {
      const int64_t place = request.place;
      log_.error[place] = error;
      if (gathering_ != nullptr) {
        const int64_t waits_from = std::max(request.due_ns, batch.free_ns);
        const int64_t until = std::max(waits_from, held_to);
        log_.gather_ns[place] = gather_ns_;
        log_.hold_ns[place] = until - waits_from;
        log_.late_ns[place] = started - until;
      }
      if (on_ != nullptr) {
        log_.issue_ns[place] = error < 0 ? issued_ns_ - started : 0;
        if (error < 0) {
          on_->write(stages, log_, place);
        }
      }
      log_.finish(place, finished);
    }
  }

  void keep(const Batch& batch) {
    if (gathering_ == nullptr) {
      keeper_.look(target_, batch.requests.front().input);
      return;
    }
    Share share{gathering_->size(), 0, 0, gathering_->by_entry()};
    for (size_t place = 0; place < batch.requests.size(); ++place) {
      share.count = gathering_->counts()[place];
      keeper_.look_at_piece(target_, batch.requests[place].input, share);
      share.begin += share.count;
    }
  }

  Run& run_;
  const Columns log_;
  const int32_t number_;
  Call& target_;
  CallerDevices* const on_;
  Gathering* const gathering_;
  Keeper<Call>& keeper_;
  std::vector<at::Tensor> outputs_;
  Pieces pieces_;
  int64_t issued_ns_ = 0, gather_ns_ = 0;
};

}  // namespace inferload
