// The threads of a run, for whoever starts them and waits for them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "caller.h"
#include "job.h"
#include "run.h"

namespace inferload {

template <class Model, class Call>
class Callers {
 public:
  Callers(Job job, const Memory& memory, std::vector<int32_t> order,
          std::vector<std::vector<Copies>> copies_in, const GatherPlan* gather_plan)
      : run_(std::make_shared<Run>(std::move(job), memory, std::move(order), std::move(copies_in),
                                   gather_plan)) {}
  Callers(const Callers&) = delete;
  Callers& operator=(const Callers&) = delete;

  // What is still in a call stays there, with the model and the memory that it uses.
  ~Callers() {
    run_->stop();
    for (auto& thread : threads_) {
      if (thread.joinable()) {
        thread.detach();
      }
    }
  }

  // One thread a caller; each warms up and waits at the start line.
  void start(Model& model) {
    try {
      for (int32_t caller = 0; caller < run_->job.callers; ++caller) {
        threads_.emplace_back(
            [run = run_, &model, caller] { run_caller<Call>(*run, model, caller); });
      }
    } catch (const std::system_error& error) {
      // Those that were started are waited for: the model may go as soon as this has thrown.
      run_->stop();
      join();
      throw std::runtime_error(error.what());
    }
  }

  void join() {
    for (auto& thread : threads_) {
      thread.join();
    }
  }

  bool all_joined() const {
    return std::none_of(threads_.begin(), threads_.end(), [](auto& t) { return t.joinable(); });
  }

  Run& run() const { return *run_; }

 private:
  const std::shared_ptr<Run> run_;
  std::vector<std::thread> threads_;
};

}  // namespace inferload
