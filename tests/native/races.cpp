// The native callers under the thread sanitizer: real runs of a small model, and a reader that
// looks at them meanwhile, as Python does. Ends with 1 where a run was not as it must be; races
// are what the sanitizer reports.

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>
#include <utility>
#include <vector>

#include "race_runs.h"

namespace {

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
        at_once ? callers.run().stop() : callers.run().end_at(400);
      }
    };
    const auto reader =
        ran(model, log, std::move(job), {0, 1}, due_every(100'000, 4'000), nullptr, end);
    check(reader.finished < 4'000, "the run has ended");
  }
}

// Batches of up to four items, of two inputs that join.
GatherPlan plan_of_batches() {
  GatherPlan plan;
  plan.groups = {{{0}, 1, 0, {1, 2, 3, 4}, {at::full({0}, 0)}, false}};
  plan.group_of = plan.ends_of = {0, 0};
  plan.items_of = {1, 1};
  plan.elements_of = {3, 3};
  plan.sources = {{at::full({1, 3}, 1)}, {at::full({1, 3}, 2)}};
  for (int32_t caller = 0; caller < kCallers; ++caller) {
    auto& shapes = plan.into.emplace_back();
    for (int64_t size = 1; size <= 4; ++size) {
      shapes.push_back({at::full({size, 3}, 0)});
    }
  }
  plan.examples = {{0}, {0, 1}, {0, 1, 0}, {0, 1, 0, 1}};
  plan.before = true;
  return plan;
}

Job job_of_batches(const Log& log, int64_t rows) {
  auto job = job_of(log, rows);
  job.optional = 0b1111110000;  // gather_ns and what follows it
  job.group_of = {0, 0};
  job.most_of = {4};
  job.max_delay_ns = 100'000;
  return job;
}

void batches_of_an_open_loop() {
  for (const int64_t every_ns : {2'000, 60'000}) {  // full ones, and ones that were held back
    const auto plan = plan_of_batches();
    Model model;
    model.plan = &plan;
    const Log log(4 * kBlockRows);
    const auto reader =
        ran(model, log, job_of_batches(log, 2'000), {0, 1, 1}, due_every(every_ns, 2'000));
    check(reader.finished == 2'000 && reader.failed == 0, "every request is answered");
  }
}

void batches_that_end_early() {
  for (const bool at_once : {false, true}) {
    const auto plan = plan_of_batches();
    Model model;
    model.plan = &plan;
    const Log log(4 * kBlockRows);
    auto job = job_of_batches(log, 4'000);
    job.drain_ns = 20 * kMs;
    const auto end = [=](auto& callers, const Reader& reader) {
      if (reader.finished > 300) {
        at_once ? callers.run().stop() : callers.run().end_at(400);
      }
    };
    const auto reader =
        ran(model, log, std::move(job), {0, 1}, due_every(100'000, 4'000), nullptr, end);
    check(reader.finished < 4'000, "the run has ended");
  }
}

void clients_who_share_callers() {
  for (const bool in_batches : {false, true}) {
    const auto plan = plan_of_batches();
    Model model;
    model.plan = in_batches ? &plan : nullptr;
    const Log log(4 * kBlockRows);
    auto job = job_of_batches(log, 3'000);
    job.most_of = {in_batches ? 4 : 1};
    job.clients_first_ns.assign(9, 0);
    job.think_ns = {0, 30'000, 90'000};
    const auto reader = ran(model, log, std::move(job), {0, 1});
    check(reader.finished == 3'000, "every request is answered");
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
    Callers<Model, Call> callers(std::move(job), {log.memory, nullptr, 0, nullptr}, {0}, {},
                                 nullptr);
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
      {"batches of an open loop", batches_of_an_open_loop},
      {"batches that end early", batches_that_end_early},
      {"clients who share callers", clients_who_share_callers},
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
