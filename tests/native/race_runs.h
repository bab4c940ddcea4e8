// A small model, a log, a reader of it, and a run of them from start to end.

#pragma once

#include <ATen/ops/full.h>
#include <callers.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace inferload;

namespace {

constexpr int32_t kCallers = 4;
constexpr int64_t kMs = 1'000'000;

void check(bool holds, const char* what) {
  if (!holds) {
    std::printf("  WRONG: %s\n", what);
    std::exit(1);
  }
}

// Input 0 returns at once, 1 sleeps for a moment, 2 fails in one of few ways, 3 in ever new words.
struct Model {
  std::atomic<int64_t> failed{0};
  std::atomic<bool> hangs{false};
  std::atomic<int64_t> hanging{0};
  const GatherPlan* plan = nullptr;  // of a model that is called with batches
};

struct Call {
  Call(Model& model, size_t caller) : model(model), caller(caller) {}
  void call(int32_t input) {
    if (model.plan != nullptr) {
      output = model.plan->into[caller][input][0].clone();
      return;
    }
    if (input == 1) {
      sleep_until(now_ns() + 30'000);
    } else if (input == 2) {
      throw std::runtime_error("failure " + std::to_string(model.failed++ % 3));
    } else if (input == 3) {
      throw std::runtime_error("new failure " + std::to_string(model.failed++));
    }
    ++model.hanging;
    while (model.hangs) {
      sleep_until(now_ns() + kMs);
    }
    --model.hanging;
    output = at::full({2}, input);
  }
  void release() { output.reset(); }
  std::vector<c10::IValue> copy_outputs() const { return {output.clone()}; }
  std::vector<c10::IValue> copy_piece(const Share& share) const {
    return {output.narrow(0, share.begin, share.count).clone()};
  }
  void output_tensors(std::vector<at::Tensor>& found) const { found = {output}; }
  size_t entries(int64_t size) const { return size; }

  Model& model;
  const size_t caller;
  at::Tensor output;
};

int64_t row_bytes() {
  int64_t bytes = 0;
  Columns().each([&](const char*, auto* column) { bytes += sizeof(*column); });
  return bytes;
}

// A log in memory that has a file behind it, as log_file.py makes it.
struct Log {
  explicit Log(int64_t room)
      : room(room), size(kHeaderBytes + room * row_bytes()), fd(memfd_create("races", 0)) {
    check(ftruncate(fd, size) == 0, "the log has room");
    memory = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    check(memory != MAP_FAILED, "the log is mapped");
  }
  ~Log() {
    munmap(memory, size);
    close(fd);
  }
  const int64_t room, size;
  const int fd;
  char* memory;
};

// What the thread that started a run reads of its log: rows that have finished, which it counts and
// clears, so that their places may be written again.
class Reader {
 public:
  explicit Reader(const Log& log) : log_(log.memory, log.room), room_(log.room) {}

  void read(Run& run) {
    const int64_t claimed = run.claims.claimed_rows();
    for (; row_ < claimed; ++row_) {
      const int64_t place = row_ % room_;
      if (__atomic_load_n(&log_.started_ns[place], __ATOMIC_ACQUIRE) == 0) {
        break;
      }
      check(log_.caller[place] >= 0 && log_.caller[place] < run.job.callers,
            "a caller has a number");
      if (__atomic_load_n(&log_.finished_ns[place], __ATOMIC_ACQUIRE) == 0) {
        break;
      }
      check(log_.started_ns[place] <= log_.finished_ns[place], "a call ends after its beginning");
      check(log_.scheduled_ns[place] <= log_.started_ns[place], "no call begins before it is due");
      failed += log_.error[place] >= 0;
      ++finished;
      log_.scheduled_ns[place] = log_.started_ns[place] = log_.finished_ns[place] = 0;
    }
    run.claims.fold_to(row_);
  }

  // All else that Python asks of a run, which it does of runs that it gives up, too.
  static void ask(Run& run) {
    size_t told = run.failures.all().size() + run.claims.log_was_full() + run.claims.disk_full();
    for (const auto& notes : run.notes) {
      told += notes.read(&Notes::kept).size() + notes.read(&Notes::cpus).size();
      told += notes.read(&Notes::first_calls_ns).size() + notes.read(&Notes::threads);
      told += notes.read(&Notes::run_delay_ns) > 0;
    }
    volatile auto seen = told + run.ending.stopped_ns();
    (void)seen;
  }

  int64_t finished = 0, failed = 0;

 private:
  const Columns log_;
  const int64_t room_;
  int64_t row_ = 0;
};

Job job_of(const Log& log, int64_t rows) {
  Job job{};
  job.callers = kCallers;
  job.callers_in_all = kCallers;
  job.rows = rows;
  job.room = log.room;
  job.warmup_calls = 12;
  job.warmup_order = {0, 1};
  job.threads_per_call = 1;
  job.log_fd = log.fd;
  job.growth_rows = kBlockRows;
  job.kept_outputs = 8;
  job.watchers = 2;
  return job;
}

using Looking = std::function<void(Callers<Model, Call>&, const Reader&)>;

// A run from start to end; ``look`` is called again and again while it lasts.
Reader ran(Model& model, const Log& log, Job job, std::vector<int32_t> order,
           std::vector<int64_t> schedule = {}, int64_t* budget = nullptr,
           const Looking& look = nullptr) {
  Callers<Model, Call> callers(
      std::move(job), {log.memory, schedule.data(), static_cast<int64_t>(schedule.size()), budget},
      std::move(order), {}, model.plan);
  callers.start(model);
  auto& run = callers.run();
  while (!run.line.wait_ready(0.001) && !run.ending.stopped()) {
    Reader::ask(run);
  }
  run.open(now_ns() + kMs);
  Reader reader(log);
  while (!run.line.wait_done(0.001)) {
    reader.read(run);
    Reader::ask(run);
    if (look) {
      look(callers, reader);
    }
  }
  callers.join();
  reader.read(run);
  return reader;
}

std::vector<int64_t> due_every(int64_t ns, int64_t calls) {
  std::vector<int64_t> due;
  for (int64_t call = 0; call < calls; ++call) {
    due.push_back(call * ns);
  }
  return due;
}

}  // namespace
