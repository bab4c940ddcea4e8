// What all callers of a run share.

#pragma once

#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "caller_devices.h"
#include "calling_thread.h"
#include "claims.h"
#include "counter.h"
#include "ending.h"
#include "failures.h"
#include "gathering.h"
#include "job.h"
#include "kept_outputs.h"
#include "log_columns.h"
#include "request_queue.h"
#include "start_line.h"
#include "watch.h"

namespace inferload {

// It outlives the Callers object if a caller never returns.
struct Run {
  Run(Job given, const Memory& memory, std::vector<int32_t> order,
      std::vector<std::vector<Copies>> copies_in, const GatherPlan* gather_plan)
      : job(std::move(given)),
        memory(memory),
        log(memory.log, job.room),
        order(std::move(order)),
        devices(devices_of(job.devices)),
        copies_in(std::move(copies_in)),
        claims(job, memory.budget, ending),
        line(job.callers, ending),
        watch(job, claims, ending),
        queue(job, this->memory, this->order, claims, ending),
        gather_plan(gather_plan),
        notes(job.callers) {
    for (const auto& device : devices) {
      shared_streams.push_back(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
    }
  }

  const Job job;
  const Memory memory;
  const Columns log;
  const std::vector<int32_t> order;  // which input each call takes, repeated
  const CallingThread calling_thread;
  const int64_t pace = counter_pace();
  const std::vector<c10::Device> devices;
  const std::vector<std::vector<Copies>> copies_in;  // of each caller and input; with transfers
  std::vector<c10::Stream> shared_streams;           // those of the thread that starts the run

  Ending ending;
  Claims claims;
  StartLine line;
  Watch watch;
  RequestQueue queue;
  const GatherPlan* const gather_plan;  // null: each call has an input of its own
  Failures failures;
  std::vector<CallerNotes> notes;  // of each caller

  bool open_loop() const { return memory.schedule_size > 0; }
  bool queued() const { return !job.most_of.empty(); }

  // Open loop: when a call is due.
  int64_t due_ns(int64_t row, int64_t start_ns) const {
    const int64_t size = memory.schedule_size;
    return start_ns + memory.schedule_ns[row % size] + row / size * job.period_ns;
  }

  void open(int64_t start_ns) {
    if (job.duration_ns > 0) {
      ending.set_limit(start_ns + job.duration_ns);
    }
    if (queued()) {
      queue.begin(start_ns);
    }
    line.open(start_ns);
  }

  void stop() {
    ending.end_now();
    line.wake();
    watch.wake_all();
    queue.wake_all();
  }

  // Open loop: take no more calls than these, which have the drain time.
  void end_at(int64_t rows) { queued() ? queue.end_at(rows) : watch.end_at(rows); }

  // Remember the exception being handled; its number among the distinct ones.
  int32_t record(int32_t caller, int32_t input, bool warming_up, int64_t requests = 1) {
    const auto recorded = failures.record(caller, input, warming_up);
    if (recorded.fatal) {
      ending.end_now();
    }
    if (recorded.out_of_memory && requests > 1) {
      queue.limit_to(requests / 2);
    }
    return recorded.number;
  }

  // What a caller has of the devices, made in its thread; nothing where calls are on the CPU.
  std::unique_ptr<CallerDevices> open_devices(int32_t caller) const {
    if (devices.empty()) {
      return nullptr;
    }
    const DeviceUse use{job.own_streams, job.wait_by_event, job.timed, job.whole_devices,
                        job.events.empty() ? std::vector<int64_t>() : job.events[caller]};
    return std::make_unique<CallerDevices>(devices, shared_streams, use,
                                           copies_in.empty() ? nullptr : &copies_in[caller]);
  }
};

}  // namespace inferload
