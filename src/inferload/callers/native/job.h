// One run, as its callers need it: data alone, set field by field from Job in Python.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace inferload {

struct Job {
  int32_t callers;
  int64_t rows;         // how many calls the log may hold
  int64_t room;         // how many rows each of its columns has
  bool open_ended;      // rows is room, not a number of calls to make
  int64_t duration_ns;  // 0: none
  int64_t warmup_calls;
  int threads_per_call;
  bool stop_on_error;
  int log_fd;
  int64_t reserved_rows;
  int64_t growth_rows;
  std::vector<std::string> devices;          // whose work a call waits for, such as "cuda:0"
  bool own_streams;                          // each caller has its own; else the starter's
  bool wait_by_event;                        // else by the stream, mostly with a spin
  bool timed;                                // stages of calls are timed on the device
  bool whole_devices;                        // a call waits for all work on its devices
  std::vector<std::vector<int64_t>> events;  // of each caller and device: the one it waits for
  uint32_t optional;                         // a bit for each optional column that the log has
  int64_t kept_outputs;                      // of each caller, spread over its calls
  int64_t period_ns;       // open loop: after this the times of the schedule repeat
  int64_t drain_ns;        // open loop: how long after the last call is due calls are started
  int32_t watchers;        // open loop: how many callers may watch for due calls at a time
  int32_t callers_in_all;  // of all processes that share a budget of calls
  std::vector<std::vector<int>> cpus;  // of each caller; empty: any
  std::vector<int32_t> warmup_order;   // the inputs of warm-up calls, repeated
  // Requests that callers serve in turn: their groups, by their inputs, and how many of a group
  // make a batch full; empty: calls are no such requests.
  std::vector<int32_t> group_of, most_of;
  int64_t max_delay_ns;                   // how long a batch is held back for more requests
  std::vector<int64_t> clients_first_ns;  // closed loop: when their first requests are due
  std::vector<int64_t> think_ns;          // and how long they think after each answer, repeated
};

// The memory of a run that is not its own: whoever starts callers keeps it until they are gone.
struct Memory {
  char* log;
  const int64_t* schedule_ns;  // when calls are due, from the start line; open loop only
  int64_t schedule_size;
  int64_t* budget;  // the calls left to all processes, in memory that they share, or null
};

// Tensors in pinned host memory, and the ones on a device that they are copied to.
using Copies = std::vector<std::pair<at::Tensor, at::Tensor>>;

// How one caller uses the devices, as DeviceWork in device_work.py has it.
struct DeviceUse {
  bool own_streams, by_event, timed, whole_devices;
  std::vector<int64_t> events;  // of each device: the one that the caller waits for, if it is given
};

}  // namespace inferload
