// Callers as Python has them: they hold its objects, and tell it what became of the run.

#pragma once

#include <torch/csrc/jit/python/pybind_utils.h>
#include <torch/extension.h>

#include <cstdint>
#include <exception>
#include <tuple>
#include <utility>
#include <vector>

#include "callers.h"
#include "job.h"

namespace inferload {

template <class Model, class Call>
class HeldCallers {
 public:
  HeldCallers(py::object model, Job job, py::buffer log, py::buffer schedule,
              std::vector<int32_t> order, py::buffer budget,
              std::vector<std::vector<Copies>> copies_in, py::object gather_plan)
      : model_(std::move(model)),
        log_(std::move(log)),
        schedule_(std::move(schedule)),
        budget_(std::move(budget)),
        gather_plan_(std::move(gather_plan)),
        callers_(std::move(job), memory(), std::move(order), std::move(copies_in),
                 gather_plan_.is_none() ? nullptr : gather_plan_.cast<const GatherPlan*>()) {
    auto& native = model_.cast<Model&>();
    const py::gil_scoped_release no_gil;
    callers_.start(native);
  }
  HeldCallers(const HeldCallers&) = delete;
  HeldCallers& operator=(const HeldCallers&) = delete;

  ~HeldCallers() {
    if (!callers_.all_joined()) {
      // A caller that never returned still uses the model and the log: they are given up.
      model_.release();
      log_.release();
      schedule_.release();
      budget_.release();
      gather_plan_.release();
    }
  }

  bool wait_ready(double timeout_s) {
    const py::gil_scoped_release no_gil;
    return run().line.wait_ready(timeout_s);
  }

  int64_t release(int64_t start_ns) {
    run().open(start_ns);
    return start_ns;
  }

  bool wait_done(double timeout_s) {
    const py::gil_scoped_release no_gil;
    return run().line.wait_done(timeout_s);
  }

  void stop() { run().stop(); }
  void end_at(int64_t rows) { run().end_at(rows); }
  void fold_to(int64_t rows) { run().claims.fold_to(rows); }
  bool log_was_full() const { return run().claims.log_was_full(); }
  int64_t claimed_rows() const { return run().claims.claimed_rows(); }
  bool disk_full() const { return run().claims.disk_full(); }
  int64_t limited_to() const { return run().queue.limited_to(); }
  int64_t stopped_ns() const { return run().ending.stopped_ns(); }

  void join() {
    const py::gil_scoped_release no_gil;
    callers_.join();
  }

  std::vector<std::vector<int64_t>> first_calls_ns() const { return each(&Notes::first_calls_ns); }
  std::vector<int64_t> run_delays_ns() const { return each(&Notes::run_delay_ns); }
  std::vector<bool> by_counter() const { return each(&Notes::by_counter); }
  std::vector<int64_t> counters_off_ns() const { return each(&Notes::counter_off_ns); }
  std::vector<std::vector<int>> cpus() const { return each(&Notes::cpus); }
  std::vector<int> threads() const { return each(&Notes::threads); }

  // For every caller, pairs of an input's number and a list of what was returned for it.
  py::list kept_outputs() const {
    py::list callers;
    for (const auto& own : each(&Notes::kept)) {
      py::list pairs;
      for (const auto& one : own) {
        py::list outputs;
        for (const auto& output : one.outputs) {
          outputs.append(torch::jit::toPyObject(output));
        }
        pairs.append(py::make_tuple(one.input, outputs));
      }
      callers.append(pairs);
    }
    return callers;
  }

  std::vector<std::tuple<int32_t, int32_t, bool>> failures() const {
    std::vector<std::tuple<int32_t, int32_t, bool>> found;
    for (const auto& one : run().failures.all()) {
      found.emplace_back(one.caller, one.input, one.warming_up);
    }
    return found;
  }

  void raise_failure(size_t number) const { std::rethrow_exception(run().failures.error(number)); }

 private:
  Run& run() const { return callers_.run(); }

  Memory memory() const {
    const auto schedule = schedule_.request();
    const auto budget = budget_.request(true);
    return {static_cast<char*>(log_.request(true).ptr), static_cast<int64_t*>(schedule.ptr),
            schedule.size, budget.size > 0 ? static_cast<int64_t*>(budget.ptr) : nullptr};
  }

  // One thing of every caller's notes. Without the GIL: a caller may hold the lock and want it.
  template <class Value>
  std::vector<Value> each(Value Notes::* of) const {
    const py::gil_scoped_release no_gil;
    std::vector<Value> found;
    for (const auto& notes : run().notes) {
      found.push_back(notes.read(of));
    }
    return found;
  }

  py::object model_;
  py::buffer log_, schedule_, budget_;
  py::object gather_plan_;
  Callers<Model, Call> callers_;
};

}  // namespace inferload
