// The native callers under the thread sanitizer: real runs of a small model, and a reader that
// looks at them meanwhile, as Python does. Ends with 1 where a run was not as it must be; races
// are what the sanitizer reports.

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
};

struct Call {
  Call(Model& model, size_t) : model(model) {}
  void call(int32_t input) {
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
  void output_tensors(std::vector<at::Tensor>& found) const { found = {output}; }

  Model& model;
  at::Tensor output;
};

// A log in memory that has a file behind it, as log_file.py makes it.
struct Log {
  explicit Log(int64_t room)
      : room(room), size(kHeaderBytes + room * 68), fd(memfd_create("races", 0)) {
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
      std::move(order), {});
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

void a_number_of_calls() {
  Model model;
  const Log log(32 * kBlockRows);
  check(ran(model, log, job_of(log, 30'000), {0, 0, 1, 0}).finished == 30'000,
        "all calls are made");
}

void a_duration() {
  Model model;
  const Log log(512 * kBlockRows);
  auto job = job_of(log, log.room);
  job.open_ended = true;
  job.duration_ns = 100 * kMs;
  check(ran(model, log, std::move(job), {0, 1}).finished > 0, "calls are made");
}

void a_log_that_is_a_ring() {
  Model model;
  const Log log(2 * kBlockRows);
  auto job = job_of(log, 40'000);
  job.open_ended = true;
  check(ran(model, log, std::move(job), {0}).finished == 40'000, "all calls are made");
}

std::atomic<bool> interrupted{false};

void a_signal() {
  Model model;
  const Log log(512 * kBlockRows);
  auto job = job_of(log, log.room);
  job.open_ended = true;
  signal(SIGINT, [](int) { interrupted = true; });
  std::thread sender([] {
    sleep_until(now_ns() + 60 * kMs);
    kill(getpid(), SIGINT);
  });
  // as in Python, the signal is seen by the thread that watches
  ran(model, log, std::move(job), {0, 1}, {}, nullptr, [](auto& callers, const Reader&) {
    if (interrupted) {
      callers.run().stop();
    }
  });
  sender.join();
  check(interrupted, "the signal has arrived");
}

void failures_that_are_recorded() {
  Model model;
  const Log log(16 * kBlockRows);
  const auto reader = ran(model, log, job_of(log, 8'000), {0, 2, 3, 1});
  check(reader.finished == 8'000 && reader.failed == 4'000, "failures are calls");
}

void a_failure_that_ends_the_run() {
  for (const int32_t first : {0, 2}) {  // in a measured call, and in a warm-up call
    Model model;
    const Log log(16 * kBlockRows);
    auto job = job_of(log, 8'000);
    job.stop_on_error = true;
    job.warmup_order = {first};
    check(ran(model, log, std::move(job), {0, 0, 0, 0, 2}).finished < 8'000, "the run has ended");
  }
}

std::vector<int64_t> due_every(int64_t ns, int64_t calls) {
  std::vector<int64_t> due;
  for (int64_t call = 0; call < calls; ++call) {
    due.push_back(call * ns);
  }
  return due;
}

void an_open_loop() {
  Model model;
  const Log log(kBlockRows);
  auto job = job_of(log, 3'000);
  job.period_ns = 1'500 * 50'000;  // the schedule is repeated once
  const auto reader = ran(model, log, std::move(job), {0, 1, 2}, due_every(50'000, 1'500));
  check(reader.finished == 3'000 && reader.failed == 1'000, "every due call is made");
}

void an_open_loop_that_ends_early() {
  for (const bool at_once : {false, true}) {
    Model model;
    const Log log(4 * kBlockRows);
    auto job = job_of(log, 4'000);
    job.drain_ns = 20 * kMs;
    const auto end = [=](auto& callers, const Reader& reader) {
      if (reader.finished > 300) {
        at_once ? callers.run().stop() : callers.run().watch.end_at(400);
      }
    };
    const auto reader =
        ran(model, log, std::move(job), {0, 1}, due_every(100'000, 4'000), nullptr, end);
    check(reader.finished < 4'000, "the run has ended");
  }
}

void calls_that_two_queues_share() {
  Model model;
  const Log one(16 * kBlockRows), other(16 * kBlockRows);
  int64_t budget = 10'000, of_other = 0;
  auto job = job_of(one, one.room), others = job_of(other, other.room);
  job.callers_in_all = others.callers_in_all = 2 * kCallers;
  std::thread beside(
      [&] { of_other = ran(model, other, std::move(others), {0}, {}, &budget).finished; });
  const auto own = ran(model, one, std::move(job), {0, 1}, {}, &budget).finished;
  beside.join();
  check(own + of_other == 10'000, "all calls are made");
}

void a_disk_that_is_full() {
  Model model;
  const Log log(8 * kBlockRows);
  auto job = job_of(log, log.room);
  job.reserved_rows = kBlockRows;
  job.log_fd = -1;
  check(ran(model, log, std::move(job), {0}).finished <= kBlockRows, "no row is without disk");
}

void callers_that_are_given_up() {
  Model model;
  const Log log(512 * kBlockRows);
  auto job = job_of(log, log.room);
  job.open_ended = true;
  {
    Callers<Model, Call> callers(std::move(job), {log.memory, nullptr, 0, nullptr}, {0}, {});
    callers.start(model);
    auto& run = callers.run();
    while (!run.line.wait_ready(0.001)) {
    }
    run.open(now_ns());
    Reader reader(log);
    for (int look = 0; look < 30; ++look) {
      run.line.wait_done(0.001);
      reader.read(run);
      Reader::ask(run);
    }
    model.hangs = true;
    while (model.hanging < kCallers) {
      sleep_until(now_ns() + kMs);
    }
    Reader::ask(run);
  }  // stopped, and let go of
  model.hangs = false;
  sleep_until(now_ns() + 200 * kMs);  // the callers end, with what they still use
}

}  // namespace

int main() {
  const std::pair<const char*, void (*)()> runs[] = {
      {"a number of calls", a_number_of_calls},
      {"a duration", a_duration},
      {"a log that is a ring", a_log_that_is_a_ring},
      {"a signal", a_signal},
      {"failures that are recorded", failures_that_are_recorded},
      {"a failure that ends the run", a_failure_that_ends_the_run},
      {"an open loop", an_open_loop},
      {"an open loop that ends early", an_open_loop_that_ends_early},
      {"calls that two queues share", calls_that_two_queues_share},
      {"a disk that is full", a_disk_that_is_full},
      {"callers that are given up", callers_that_are_given_up},
  };
  for (const auto& [name, run] : runs) {
    std::printf("%s\n", name);
    std::fflush(stdout);
    run();
  }
  return 0;
}
