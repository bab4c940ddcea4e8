// Callers that run without the GIL: one C++ thread each, for TorchScript graphs and AOTInductor
// packages. Python starts them, waits for them and reads the log they write (log_file.py).

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/python/pybind_utils.h>
#include <torch/extension.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <ctime>
#include <exception>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

constexpr int64_t kHeaderBytes = 4096;
constexpr int64_t kBlockRows = 1024;
constexpr int64_t kBlockNs = 1'000'000;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
// How long before a call is due its caller stops sleeping and looks at the clock instead: longer
// where sleeps have lately lasted too long by more, as they do on virtual machines.
constexpr int64_t kLeastSpinNs = 100'000;
constexpr int64_t kMostSpinNs = 500'000;
// How soon a caller that sleeps sees that the run was stopped.
constexpr int64_t kStopPollNs = 50'000'000;
// A caller that began a call is given so long to be back before a parked one is woken in its place.
constexpr int64_t kShortCallNs = 20'000;
// In the last stretch before a due time a watcher keeps its core.
constexpr int64_t kYieldNs = 2'000;
constexpr size_t kFirstCalls = 10;
constexpr int64_t kNoStage = -1;  // as NO_STAGE in call_log.py
constexpr size_t kDistinctErrors = 256;

// The columns of a log file, as COLUMNS and STAGES in call_log.py.
struct Columns {
  Columns(char* file, int64_t room) {
    int64_t* times = reinterpret_cast<int64_t*>(file + kHeaderBytes);
    scheduled_ns = times;
    started_ns = times + room;
    finished_ns = times + 2 * room;
    int32_t* numbers = reinterpret_cast<int32_t*>(times + 3 * room);
    caller = numbers;
    input = numbers + room;
    error = numbers + 2 * room;
    int64_t* stages = reinterpret_cast<int64_t*>(numbers + 3 * room);
    issue_ns = stages;
    device_ns = stages + room;
    copy_in_ns = stages + 2 * room;
    copy_out_ns = stages + 3 * room;
  }
  int64_t *scheduled_ns, *started_ns, *finished_ns;
  int32_t *caller, *input, *error;
  int64_t *issue_ns, *device_ns, *copy_in_ns, *copy_out_ns;
};

// Set aside disk space for rows [from, to) of every column, and of so many stages; errno, or 0.
int reserve_rows(int fd, int64_t room, int64_t from, int64_t to, int stages) {
  int64_t offset = kHeaderBytes;
  int column = 0;
  for (const int64_t width : {8, 8, 8, 4, 4, 4, 8, 8, 8, 8}) {
    if (column++ == 6 + stages) {
      break;
    }
    if (const int error = posix_fallocate(fd, offset + from * width, (to - from) * width)) {
      return error;
    }
    offset += room * width;
  }
  return 0;
}

// CLOCK_MONOTONIC is what time.perf_counter_ns reads on Linux.
inline int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

inline void sleep_until(int64_t time_ns) {
  const timespec t{time_ns / 1'000'000'000, time_ns % 1'000'000'000};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr);
}

// How long this thread has stood in a run queue, waiting for a core; 0 where the kernel does not
// say (proc(5), schedstat).
int64_t run_delay_ns() {
  std::ifstream file("/proc/thread-self/schedstat");
  int64_t on_core = 0, waiting = 0;
  return file >> on_core >> waiting ? waiting : 0;
}

// Whether an error means that a device is lost to the process, as is_fatal in device_errors.py.
bool is_fatal(const std::string& what) {
  for (const char* words :
       {"device-side assert", "illegal memory access", "illegal address", "illegal instruction",
        "misaligned address", "unspecified launch failure", "hardware stack error",
        "invalid program counter", "invalid address space", "uncorrectable ECC",
        "context is destroyed"}) {
    if (what.find(words) != std::string::npos) {
      return true;
    }
  }
  return false;
}

// ---- what is called ----

struct ScriptModel {
  ScriptModel(const torch::jit::Module& module, const py::list& inputs_by_caller)
      : module(module), self(module._ivalue()), method(module.get_method("forward")) {
    for (const auto& own : inputs_by_caller) {
      auto& bound = inputs.emplace_back();
      for (const auto& one : own.cast<py::list>()) {
        const auto pair = one.cast<py::tuple>();
        auto stack = torch::jit::createStackForSchema(
            method.function().getSchema(),
            torch::jit::tuple_slice(pair[0].cast<py::tuple>()),
            pair[1].cast<py::kwargs>(),
            self);
        bound.push_back(std::move(stack));
      }
    }
  }

  torch::jit::Module module;
  c10::IValue self;
  torch::jit::Method method;
  std::vector<std::vector<torch::jit::Stack>> inputs;
};

struct AotiModel {
  AotiModel(py::object loader_object, std::vector<std::vector<std::vector<at::Tensor>>> inputs)
      : owner(std::move(loader_object)), inputs(std::move(inputs)) {
    // torch registers a subclass of AOTIModelPackageLoader that no header names, so the pointer
    // is taken from the pybind11 instance instead of cast.
    auto* instance = reinterpret_cast<py::detail::instance*>(owner.ptr());
    loader = static_cast<torch::inductor::AOTIModelPackageLoader*>(
        instance->get_value_and_holder().value_ptr());
  }

  py::object owner;
  torch::inductor::AOTIModelPackageLoader* loader;
  std::vector<std::vector<std::vector<at::Tensor>>> inputs;
};

// A CUDA graph that replays one caller's call with one of its inputs. The library that it is in has
// no headers here: its one function is found by name.
struct GraphUse {
  void* graph;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;  // an input, and where the graph reads it
  std::vector<at::Tensor> outputs;
};

struct GraphModel {
  // uses[caller][input] is (graph, [(input, buffer), ...], [output, ...])
  explicit GraphModel(const py::list& uses_by_caller) : owner(uses_by_caller) {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* found = library ? dlsym(library, "_ZN2at4cuda9CUDAGraph6replayEv") : nullptr;
    if (found == nullptr) {
      throw std::runtime_error("this torch has no at::cuda::CUDAGraph::replay");
    }
    replay = reinterpret_cast<void (*)(void*)>(found);
    for (const auto& own : uses_by_caller) {
      auto& uses = inputs.emplace_back();
      for (const auto& one : own.cast<py::list>()) {
        const auto parts = one.cast<py::tuple>();
        auto* instance = reinterpret_cast<py::detail::instance*>(parts[0].ptr());
        uses.push_back({instance->get_value_and_holder().value_ptr(),
                        parts[1].cast<std::vector<std::pair<at::Tensor, at::Tensor>>>(),
                        parts[2].cast<std::vector<at::Tensor>>()});
      }
    }
  }

  py::object owner;
  void (*replay)(void*);
  std::vector<std::vector<GraphUse>> inputs;
};

// The tensors in a value, whatever it is made of.
void collect_tensors(const c10::IValue& value, std::vector<at::Tensor>& found) {
  if (value.isTensor()) {
    found.push_back(value.toTensor());
  } else if (value.isTuple()) {
    for (const auto& one : value.toTupleRef().elements()) {
      collect_tensors(one, found);
    }
  } else if (value.isList()) {
    for (const c10::IValue& one : value.toListRef()) {
      collect_tensors(one, found);
    }
  } else if (value.isGenericDict()) {
    for (const auto& one : value.toGenericDict()) {
      collect_tensors(one.value(), found);
    }
  }
}

// One caller's view of a model: call() runs input k, release() lets go of what it returned.
struct ScriptCall {
  ScriptCall(ScriptModel& model, size_t caller)
      : function(model.method.function()), inputs(model.inputs[caller]) {}
  void call(int32_t k) {
    stack.assign(inputs[k].begin(), inputs[k].end());
    function.run(stack);
  }
  void release() { stack.clear(); }
  // A copy of what was returned, made before any other call can write into it.
  std::vector<c10::IValue> copy_outputs() const {
    std::vector<c10::IValue> copies;
    for (const auto& output : stack) {
      copies.push_back(output.deepcopy());
    }
    return copies;
  }
  void output_tensors(std::vector<at::Tensor>& found) const {
    for (const auto& output : stack) {
      collect_tensors(output, found);
    }
  }

  torch::jit::Function& function;
  const std::vector<torch::jit::Stack>& inputs;
  torch::jit::Stack stack;
};

struct AotiCall {
  AotiCall(AotiModel& model, size_t caller) : loader(*model.loader), inputs(model.inputs[caller]) {}
  void call(int32_t k) { outputs = loader.run(inputs[k]); }
  void release() { outputs.clear(); }
  std::vector<c10::IValue> copy_outputs() const {
    std::vector<c10::IValue> copies;
    for (const auto& output : outputs) {
      copies.emplace_back(output.clone());
    }
    return copies;
  }
  void output_tensors(std::vector<at::Tensor>& found) const { found = outputs; }

  torch::inductor::AOTIModelPackageLoader& loader;
  const std::vector<std::vector<at::Tensor>>& inputs;
  std::vector<at::Tensor> outputs;
};

struct GraphCall {
  GraphCall(GraphModel& model, size_t caller) : replay(model.replay), uses(model.inputs[caller]) {}
  void call(int32_t k) {
    use = &uses[k];
    for (const auto& [input, buffer] : use->copies) {
      buffer.copy_(input, true);
    }
    replay(use->graph);
  }
  void release() {}
  std::vector<c10::IValue> copy_outputs() const {
    std::vector<c10::IValue> copies;
    for (const auto& output : use->outputs) {
      copies.emplace_back(output.clone());
    }
    return copies;
  }
  void output_tensors(std::vector<at::Tensor>& found) const { found = use->outputs; }

  void (*replay)(void*);
  const std::vector<GraphUse>& uses;
  const GraphUse* use = nullptr;
};

// Several models: each input belongs to one of them, and has a number among that one's inputs.
struct MixModel {
  MixModel(const py::list& objects, std::vector<int32_t> owner, std::vector<int32_t> local)
      : owner(std::move(owner)), local(std::move(local)) {
    for (const auto& object : objects) {
      owners.push_back(py::reinterpret_borrow<py::object>(object));
      if (py::isinstance<ScriptModel>(object)) {
        models.emplace_back(object.cast<ScriptModel*>());
      } else if (py::isinstance<GraphModel>(object)) {
        models.emplace_back(object.cast<GraphModel*>());
      } else {
        models.emplace_back(object.cast<AotiModel*>());
      }
    }
  }

  std::vector<py::object> owners;
  std::vector<std::variant<ScriptModel*, GraphModel*, AotiModel*>> models;
  std::vector<int32_t> owner, local;
};

struct MixCall {
  MixCall(MixModel& mix, size_t caller) : mix(mix) {
    calls.reserve(mix.models.size());
    for (auto& model : mix.models) {
      if (auto* script = std::get_if<ScriptModel*>(&model)) {
        calls.emplace_back(std::in_place_type<ScriptCall>, **script, caller);
      } else if (auto* graph = std::get_if<GraphModel*>(&model)) {
        calls.emplace_back(std::in_place_type<GraphCall>, **graph, caller);
      } else {
        calls.emplace_back(std::in_place_type<AotiCall>, *std::get<AotiModel*>(model), caller);
      }
    }
  }
  void call(int32_t k) {
    current = &calls[mix.owner[k]];
    std::visit([&](auto& one) { one.call(mix.local[k]); }, *current);
  }
  void release() {
    if (current != nullptr) {
      std::visit([](auto& one) { one.release(); }, *current);
    }
  }
  std::vector<c10::IValue> copy_outputs() const {
    return std::visit([](const auto& one) { return one.copy_outputs(); }, *current);
  }
  void output_tensors(std::vector<at::Tensor>& found) const {
    std::visit([&](const auto& one) { one.output_tensors(found); }, *current);
  }

  const MixModel& mix;
  std::vector<std::variant<ScriptCall, GraphCall, AotiCall>> calls;
  std::variant<ScriptCall, GraphCall, AotiCall>* current = nullptr;
};

// A call that does nothing: what is measured then is the harness itself.
struct NoModel {
  explicit NoModel(int32_t callers) : inputs(callers, std::vector<int>(1)) {}
  std::vector<std::vector<int>> inputs;
};

struct NoCall {
  NoCall(NoModel&, size_t) {}
  void call(int32_t k) { asm volatile("" : : "r"(k) : "memory"); }
  void release() {}
  std::vector<c10::IValue> copy_outputs() const { return {}; }
  void output_tensors(std::vector<at::Tensor>&) const {}
};

// ---- the state of the thread that starts a run, as each caller takes it over ----

class CallingThread {
 public:
  CallingThread() : cache_enabled_(at::autocast::is_autocast_cache_enabled()) {
    // torch 2.6 has no list of them
    const auto types = static_cast<int>(at::DeviceType::COMPILE_TIME_MAX_DEVICE_TYPES);
    for (int number = 0; number < types; ++number) {
      const auto device = static_cast<at::DeviceType>(number);
      if (at::autocast::is_autocast_available(device)) {
        dtypes_.emplace_back(device, at::autocast::get_autocast_dtype(device));
      }
    }
  }
  void take_over() const {
    at::ThreadLocalState::setThreadLocalState(state_);
    // ThreadLocalState leaves the cache flag out, and the dtypes on older releases.
    for (const auto& [device, dtype] : dtypes_) {
      at::autocast::set_autocast_dtype(device, dtype);
    }
    at::autocast::set_autocast_cache_enabled(cache_enabled_);
  }

 private:
  at::ThreadLocalState state_;
  bool cache_enabled_;
  std::vector<std::pair<at::DeviceType, at::ScalarType>> dtypes_;
};

// ---- a run ----

struct Plan {
  int32_t callers;
  int64_t rows;            // how many calls the log may hold
  int64_t room;            // how many rows each of its columns has
  bool open_ended;         // rows is room, not a number of calls to make
  int64_t duration_ns;     // 0: none
  int64_t warmup_calls;
  int threads_per_call;
  bool stop_on_error;
  int log_fd;
  int64_t reserved_rows;
  int64_t growth_rows;
  std::vector<std::string> devices;  // whose work a call waits for, such as "cuda:0"
  bool own_streams;                  // each caller has streams of its own; else the starter's
  bool wait_by_event;                // else by the stream, which mostly means with a spin
  bool timed;                        // stages of calls are timed on the device
  bool whole_devices;                // a call waits for all work on its devices
  std::vector<std::vector<int64_t>> events;  // of each caller and device: the one it waits for
  int stages;                        // how many columns for stages the log has
  int64_t kept_outputs;    // of each caller, spread over its calls
  int64_t period_ns;       // open loop: after this the times of the schedule repeat
  int64_t drain_ns;        // open loop: how long after the last call is due calls are started
  int32_t watchers;        // open loop: how many callers may watch for due calls at a time
  int32_t callers_in_all;  // of all processes that share a budget of calls
  std::vector<std::vector<int>> cpus;  // of each caller; empty: any
  std::vector<int32_t> warmup_order;   // the inputs of warm-up calls, repeated
};

// Tensors in pinned host memory, and the ones on a device that they are copied to.
using Copies = std::vector<std::pair<at::Tensor, at::Tensor>>;

// How one caller uses the devices, as DeviceWork in device_work.py has it.
struct DeviceUse {
  bool own_streams, by_event, timed, whole_devices;
  std::vector<int64_t> events;  // of each device: the one that the caller waits for, if it is given
};

// What one caller has of the devices: a stream on each, and events that say when work was done.
class CallerDevices {
 public:
  CallerDevices(const std::vector<c10::Device>& devices, const std::vector<c10::Stream>& shared,
                const DeviceUse& use, const std::vector<Copies>* copies_in)
      : by_event_(use.by_event),
        timed_(use.timed),
        whole_(use.whole_devices),
        copies_in_(copies_in) {
    for (size_t place = 0; place < devices.size(); ++place) {
      const c10::impl::VirtualGuardImpl guard(devices[place].type());
      const auto stream =
          use.own_streams ? guard.getStreamFromGlobalPool(devices[place]) : shared[place];
      One one{guard, stream, {}};
      if (!use.events.empty()) {
        one.marks[kDone] = reinterpret_cast<void*>(use.events[place]);
        one.done_is_borrowed = true;
      }
      all_.push_back(one);
    }
    enter();
    try {  // a backend may have no events, or no timing
      mark(kBegin);
      end();
      wait();
      if (timed_) {
        elapsed_ns(kBegin, kEnd);
      }
    } catch (const c10::Error&) {
      timed_ = by_event_ = false;
    }
    timing_ = timed_;
  }
  CallerDevices(const CallerDevices&) = delete;
  CallerDevices& operator=(const CallerDevices&) = delete;
  ~CallerDevices() {
    for (auto& one : all_) {
      for (int mark = 0; mark < kMarks; ++mark) {
        if (one.marks[mark] != nullptr && !(mark == kDone && one.done_is_borrowed)) {
          one.guard.destroyEvent(one.marks[mark], one.stream.device_index());
        }
      }
    }
  }

  // Everything that one call enqueues, in the order of its marks.
  template <class Call>
  void issue(Call& target, int32_t input) {
    begin();
    if (copies_in_ != nullptr) {
      copy_in(input);
    }
    target.call(input);
    if (copies_in_ != nullptr) {
      called();
      outputs_.clear();
      target.output_tensors(outputs_);
      copy_out(outputs_, input);
      outputs_.clear();
    }
    end();
  }

  // The parts of it, for callers that are in Python meanwhile.
  void begin() {
    enter();  // the call before may have left another stream
    mark(kBegin);
  }
  void copy_in(int32_t input) {
    {
      const c10::InferenceMode mode;  // inputs may be inference tensors
      for (const auto& [host, device] : (*copies_in_)[input]) {
        device.copy_(host, true);
      }
    }
    mark(kCopiedIn);
  }
  void called() { mark(kCalled); }
  void copy_out(const std::vector<at::Tensor>& outputs, int32_t input) {
    const c10::InferenceMode mode;
    if (static_cast<size_t>(input) >= host_outputs_.size()) {
      host_outputs_.resize(input + 1);
    }
    auto& host = host_outputs_[input];
    host.resize(outputs.size());
    for (size_t place = 0; place < outputs.size(); ++place) {
      const auto& output = outputs[place];
      if (!host[place].defined() || host[place].sizes() != output.sizes() ||
          host[place].scalar_type() != output.scalar_type()) {
        host[place] = at::empty(output.sizes(), output.options().device(c10::kCPU).pinned_memory(true));
      }
      host[place].copy_(output, true);
    }
  }
  // What is waited for has a mark of its own: one that takes the time makes the wait longer.
  void end() {
    mark(kEnd);
    if (by_event_) {
      record(kDone);
    }
  }

  // Whether there is something to be enqueued at the end of a call.
  bool ends_with_mark() const { return timing_ || by_event_; }
  bool timing() const { return timing_; }
  // Whether the stages of the next call are timed; all are until this is said.
  void time_next(bool wanted) { timing_ = timed_ && wanted; }

  // Returns when the work of the call is finished.
  void wait() const {
    for (const auto& one : all_) {
      if (whole_) {
        one.guard.synchronizeDevice(one.stream.device_index());
      } else if (by_event_) {
        one.guard.synchronizeEvent(one.marks[kDone]);
      } else {
        one.guard.synchronizeStream(one.stream);
      }
    }
  }

  // After a call that raised: what it had enqueued is finished, or known to have failed.
  void settle() const {
    try {
      for (const auto& one : all_) {
        one.guard.synchronizeStream(one.stream);
      }
    } catch (...) {  // the call raised already
    }
  }

  // The stages of a call whose work is finished, by the events around it.
  struct Stages {
    int64_t device_ns = kNoStage, copy_in_ns = kNoStage, copy_out_ns = kNoStage;
    bool lost = false;  // they cannot be had any more
  };

  Stages stages() const {
    Stages found;
    if (!timing_) {
      return found;
    }
    try {
      if (copies_in_ == nullptr) {
        found.device_ns = elapsed_ns(kBegin, kEnd);
      } else {
        found.copy_in_ns = elapsed_ns(kBegin, kCopiedIn);
        found.device_ns = elapsed_ns(kCopiedIn, kCalled);
        found.copy_out_ns = elapsed_ns(kCalled, kEnd);
      }
    } catch (...) {  // another call made the device fail since: the next one will say so
      found = Stages();
      found.lost = true;
    }
    return found;
  }

  void write(const Stages& found, const Columns& log, int64_t place) const {
    if (!timed_) {
      return;
    }
    if (found.lost) {
      log.issue_ns[place] = kNoStage;
    }
    log.device_ns[place] = found.device_ns;
    if (copies_in_ != nullptr) {
      log.copy_in_ns[place] = found.copy_in_ns;
      log.copy_out_ns[place] = found.copy_out_ns;
    }
  }

 private:
  static constexpr int kBegin = 0, kCopiedIn = 1, kCalled = 2, kEnd = 3, kDone = 4, kMarks = 5;

  struct One {
    c10::impl::VirtualGuardImpl guard;
    c10::Stream stream;
    void* marks[kMarks] = {};
    bool done_is_borrowed = false;
  };

  // The caller's streams are the current ones, and the first device the current one.
  void enter() const {
    for (const auto& one : all_) {
      if (one.guard.getStream(one.stream.device()) != one.stream) {
        one.guard.exchangeStream(one.stream);
      }
    }
    const auto& first = all_.front();
    if (first.guard.getDevice() != first.stream.device()) {
      first.guard.setDevice(first.stream.device());
    }
  }

  void mark(int which) {
    if (timing_) {
      record(which);
    }
  }

  void record(int which) {
    for (auto& one : all_) {
      one.guard.record(&one.marks[which], one.stream, one.stream.device_index(),
                       c10::EventFlag::BACKEND_DEFAULT);
    }
  }

  int64_t elapsed_ns(int from, int to) const {
    double longest_ms = 0;
    for (const auto& one : all_) {
      longest_ms = std::max(longest_ms, one.guard.elapsedTime(one.marks[from], one.marks[to],
                                                              one.stream.device_index()));
    }
    return std::llround(longest_ms * 1e6);
  }

  std::vector<One> all_;
  bool by_event_, timed_, whole_;
  bool timing_ = true;  // of the call that it is in
  const std::vector<Copies>* copies_in_;
  std::vector<at::Tensor> outputs_;
  std::vector<std::vector<at::Tensor>> host_outputs_;
};

// One output that a caller kept: which of its inputs it belongs to, and what was returned.
struct Kept {
  int32_t input;
  std::vector<c10::IValue> outputs;
};

struct Failure {
  std::exception_ptr error;
  std::string what;
  int32_t caller;
  int32_t input;
  bool warming_up;
};

// Copies some outputs of one caller: every call's at first; when there is no more room, every
// second one is dropped and only every second call is copied from then on.
template <class Call>
class Keeper {
 public:
  Keeper(std::vector<Kept>& kept, int64_t room)
      : kept_(kept), room_(static_cast<size_t>(room)), next_(room > 0 ? 0 : kNever) {}

  void look(const Call& target, int32_t input) {
    if (calls_++ != next_) {
      return;
    }
    next_ += stride_;
    kept_.push_back({input, {}});
    try {
      kept_.back().outputs = target.copy_outputs();
    } catch (...) {  // an output that cannot be copied: Python says so
    }
    if (kept_.size() == room_) {
      for (size_t i = 1; 2 * i < kept_.size(); ++i) {
        kept_[i] = std::move(kept_[2 * i]);
      }
      kept_.resize((room_ + 1) / 2);
      stride_ *= 2;
      next_ = (calls_ + stride_ - 1) / stride_ * stride_;
    }
  }

 private:
  std::vector<Kept>& kept_;
  size_t room_;
  int64_t calls_ = 0, stride_ = 1, next_;
};

// Claims some of the calls left to several queues or processes: a fair share among so many callers,
// at least 1; 0 if none are left. Budget.take in budget.py does the same.
int64_t take_calls(int64_t* budget, int64_t most, int64_t among) {
  int64_t left = __atomic_load_n(budget, __ATOMIC_RELAXED), taken;
  do {
    taken = std::max<int64_t>(std::min({std::max<int64_t>(left / (4 * among), 1), most, left}), 0);
  } while (taken > 0 && !__atomic_compare_exchange_n(budget, &left, left - taken, true,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return taken;
}

// All that callers share. It outlives the Callers object if a caller never returns.
struct Run {
  Run(Plan plan, py::buffer_info log, py::buffer_info schedule, std::vector<int32_t> order,
      py::buffer_info budget, std::vector<std::vector<Copies>> copies_in)
      : plan(std::move(plan)),
        log(static_cast<char*>(log.ptr), this->plan.room),
        schedule_ns(static_cast<int64_t*>(schedule.ptr)),
        schedule_size(schedule.size),
        order(std::move(order)),
        budget(budget.size > 0 ? static_cast<int64_t*>(budget.ptr) : nullptr),
        devices(this->plan.devices.begin(), this->plan.devices.end()),
        copies_in(std::move(copies_in)),
        reserved_rows(this->plan.reserved_rows),
        end_row(this->plan.rows),
        first_calls_ns(this->plan.callers),
        run_delays_ns(this->plan.callers, 0),
        cpus(this->plan.callers),
        threads(this->plan.callers, 0),
        kept(this->plan.callers) {
    for (const auto& device : devices) {
      shared_streams.push_back(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
    }
  }

  const Plan plan;
  const Columns log;
  const int64_t* const schedule_ns;  // when calls are due, from the start line; open loop only
  const int64_t schedule_size;
  const std::vector<int32_t> order;
  int64_t* const budget;  // the calls left to all processes, in memory that they share, or null
  const CallingThread calling_thread;
  const std::vector<c10::Device> devices;
  const std::vector<std::vector<Copies>> copies_in;  // of each caller and input; with transfers
  std::vector<c10::Stream> shared_streams;           // those of the thread that starts the run

  alignas(64) std::atomic<int64_t> next_row{0};
  // A call that finishes later than this is the caller's last one.
  alignas(64) std::atomic<int64_t> limit_ns{kNever};
  alignas(64) std::mutex claim_mutex;
  alignas(64) std::mutex mutex;
  std::condition_variable changed;
  int64_t start_ns = 0;
  bool released = false;
  int32_t at_line = 0;
  int32_t finished = 0;
  std::atomic<int64_t> reserved_rows;
  bool disk_full = false;
  std::vector<Failure> failures;

  // Rows before this have been read and may be written again: the log is a ring.
  alignas(64) std::atomic<int64_t> folded_rows{0};
  std::atomic<bool> log_was_full{false};

  // Open loop: who watches for the next due call.
  alignas(64) std::mutex watch_mutex;
  std::condition_variable may_watch;
  std::atomic<int64_t> end_row;
  std::atomic<int32_t> watching{0};
  std::atomic<int32_t> parked{0};
  std::atomic<bool> waking{false};

  // Each caller writes its own entry.
  std::vector<std::vector<int64_t>> first_calls_ns;
  std::vector<int64_t> run_delays_ns;
  std::vector<std::vector<int>> cpus;  // that it may run on, and its intra-op threads, as they are
  std::vector<int> threads;
  std::vector<std::vector<Kept>> kept;

  bool open_loop() const { return schedule_size > 0; }

  bool stopped() const { return limit_ns.load(std::memory_order_relaxed) == 0; }

  // When the run was stopped; 0 if it was not.
  std::atomic<int64_t> stopped_ns{0};

  // All callers end with the call they are in. A limit set meanwhile must not undo it: whoever
  // sets one looks at stopped_ns afterwards.
  void end_now() {
    int64_t never = 0;
    stopped_ns.compare_exchange_strong(never, now_ns());
    limit_ns.store(0);
  }

  void set_limit(int64_t limit) {
    limit_ns.store(limit);
    if (stopped_ns.load() != 0) {
      limit_ns.store(0);
    }
  }

  void stop() {
    end_now();
    {
      std::lock_guard<std::mutex> lock(mutex);
      changed.notify_all();
    }
    std::lock_guard<std::mutex> lock(watch_mutex);
    may_watch.notify_all();
  }

  // The next range of rows for a caller. Ranges shrink towards the end (guided self-scheduling,
  // Polychronopoulos & Kuck 1987), so that the count is met exactly, nobody waits for one
  // caller's long range, and the counter is rarely touched.
  // Where the number of calls is open, a caller claims as many as it makes in about 1 ms, so that
  // slow calls take their inputs in order and fast ones rarely touch the counter.
  std::pair<int64_t, int64_t> claim(int64_t in_a_while) {
    if (budget != nullptr) {
      return claim_of_budget(in_a_while);
    }
    int64_t begin = next_row.load(std::memory_order_relaxed);
    int64_t end;
    do {
      const int64_t left = plan.rows - begin;
      if (left <= 0 || stopped() || !wait_for_room(begin)) {
        return {0, 0};
      }
      const int64_t fair = plan.open_ended ? in_a_while : left / (4 * plan.callers);
      const int64_t unbroken = plan.room - begin % plan.room;
      const int64_t free = folded_rows.load(std::memory_order_acquire) + plan.room - begin;
      end = begin + std::clamp<int64_t>(fair, 1, std::min({kBlockRows, left, unbroken, free}));
    } while (!next_row.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    return reserve(end) ? std::pair(begin, end) : std::pair(int64_t{0}, int64_t{0});
  }

  // The same where other processes take from the same calls: their number decides, and the rows of
  // this log are taken under the lock, which a range of calls is long enough for.
  std::pair<int64_t, int64_t> claim_of_budget(int64_t in_a_while) {
    std::unique_lock<std::mutex> lock(claim_mutex);
    const int64_t begin = next_row.load(std::memory_order_relaxed);
    if (begin >= plan.rows || stopped() || !wait_for_room(begin)) {
      return {0, 0};
    }
    const int64_t unbroken = plan.room - begin % plan.room;
    const int64_t free = folded_rows.load(std::memory_order_acquire) + plan.room - begin;
    const int64_t most = std::min({in_a_while, kBlockRows, plan.rows - begin, unbroken, free});
    const int64_t taken = take_calls(budget, most, plan.callers_in_all);
    if (taken == 0) {
      return {0, 0};
    }
    next_row.store(begin + taken, std::memory_order_relaxed);
    lock.unlock();
    return reserve(begin + taken) ? std::pair(begin, begin + taken) : std::pair(int64_t{0}, int64_t{0});
  }

  // The log is a ring: wait until the row that stood in this row's place has been read.
  bool wait_for_room(int64_t row) {
    while (row >= folded_rows.load(std::memory_order_acquire) + plan.room) {
      log_was_full.store(true, std::memory_order_relaxed);
      // past the end of the run too: a caller that has ended may have left rows that never finish
      const int64_t now = now_ns();
      if (now > limit_ns.load(std::memory_order_relaxed)) {
        return false;
      }
      sleep_until(now + 1'000'000);
    }
    return true;
  }

  // Disk space before use: a page of the map with no disk behind it would end the process.
  bool reserve(int64_t rows) {
    rows = std::min(rows, plan.room);
    if (rows <= reserved_rows.load(std::memory_order_acquire)) {
      return true;
    }
    std::lock_guard<std::mutex> lock(mutex);
    while (reserved_rows < rows) {
      const int64_t to = std::min(reserved_rows + plan.growth_rows, plan.room);
      if (reserve_rows(plan.log_fd, plan.room, reserved_rows, to, plan.stages) != 0) {
        disk_full = true;
        end_now();
        return false;
      }
      reserved_rows.store(to, std::memory_order_release);
    }
    return true;
  }

  // Remember the exception being handled; give its number among the distinct ones.
  int32_t record(int32_t caller, int32_t input, bool warming_up) {
    const auto error = std::current_exception();
    std::string what = "unknown C++ exception";
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      what = e.what();
    } catch (...) {
    }
    if (is_fatal(what)) {
      end_now();  // every further call would fail as well
    }
    std::lock_guard<std::mutex> lock(mutex);
    for (size_t i = 0; i < failures.size(); ++i) {
      if (failures[i].what == what || i + 1 == kDistinctErrors) {
        return static_cast<int32_t>(i);
      }
    }
    failures.push_back({error, what, caller, input, warming_up});
    return static_cast<int32_t>(failures.size() - 1);
  }

  template <class Call>
  bool warm_up(Call& target, int32_t caller, CallerDevices* on) {
    for (int64_t n = 0; n < plan.warmup_calls && !stopped(); ++n) {
      const int32_t input = plan.warmup_order[n % plan.warmup_order.size()];
      const int64_t started = now_ns();
      try {
        if (on != nullptr) {
          on->issue(target, input);
          on->wait();
        } else {
          target.call(input);
        }
      } catch (...) {
        if (on != nullptr) {
          on->settle();
        }
        // When errors are recorded, only those of measured calls count.
        if (plan.stop_on_error) {
          record(caller, input, true);
          stop();
          return false;
        }
      }
      if (first_calls_ns[caller].size() < kFirstCalls) {
        first_calls_ns[caller].push_back(now_ns() - started);
      }
      target.release();
    }
    return true;
  }

  bool wait_at_line() {
    std::unique_lock<std::mutex> lock(mutex);
    ++at_line;
    changed.notify_all();
    changed.wait(lock, [&] { return released || stopped(); });
    return released;
  }

  // One call: its row, its stamps, its error. Returns when it finished.
  template <class Call, bool kOnDevice>
  inline int64_t make_call(Call& target, int32_t caller, int32_t input, int64_t place, int64_t due,
                           Keeper<Call>& keeper, CallerDevices* on) {
    int32_t error = -1;
    int64_t finished, issued = 0;
    const int64_t started = now_ns();
    log.scheduled_ns[place] = due == kNever ? started : due;
    log.started_ns[place] = started;
    try {
      if constexpr (kOnDevice) {
        on->issue(target, input);
        issued = now_ns();
        on->wait();
      } else {
        target.call(input);
      }
      finished = now_ns();
    } catch (...) {
      if constexpr (kOnDevice) {
        on->settle();
      }
      finished = now_ns();
      error = record(caller, input, false);
      if (plan.stop_on_error) {
        stop();
      }
    }
    log.error[place] = error;
    if constexpr (kOnDevice) {
      log.issue_ns[place] = error < 0 ? issued - started : 0;
      if (error < 0) {
        on->write(on->stages(), log, place);
      }
    }
    log.finished_ns[place] = finished;
    if (error < 0) {
      keeper.look(target, input);
    }
    target.release();
    return finished;
  }

  template <class Call, bool kOnDevice>
  void call_at_once(Call& target, const int32_t caller, CallerDevices* on) {
    const auto order_length = static_cast<int64_t>(order.size());
    Keeper<Call> keeper(kept[caller], plan.kept_outputs);
    int64_t in_a_while = 1;
    for (auto [row, end] = claim(1); row != end; std::tie(row, end) = claim(in_a_while)) {
      const int64_t first = row % plan.room, after = first + (end - row);
      int64_t drawn = row % order_length;
      for (int64_t place = first; place != after; ++place) {
        const int32_t input = order[drawn];
        if (++drawn == order_length) {
          drawn = 0;
        }
        log.caller[place] = caller;
        log.input[place] = input;
        const int64_t finished =
            make_call<Call, kOnDevice>(target, caller, input, place, kNever, keeper, on);
        if (finished > limit_ns.load(std::memory_order_relaxed)) {
          return;
        }
      }
      const bool fast = log.finished_ns[after - 1] - log.started_ns[first] < kBlockNs;
      in_a_while = std::clamp<int64_t>(fast ? 2 * in_a_while : in_a_while / 2, 1, kBlockRows);
    }
  }

  // ---- open loop ----
  //
  // Calls are taken in the order of their due times by whichever caller is free: a caller takes
  // the next row and watches the clock until the row is due. Only so many callers watch at a time
  // (one a core: a watcher spins in the end); the others are parked. Waking a thread costs
  // microseconds, so a caller that begins a call leaves that to another watcher, which has time
  // while it spins, and wakes one itself only where nobody else watches.

  static constexpr int64_t kNoRow = -1;

  int64_t take_row() {
    std::unique_lock<std::mutex> lock(watch_mutex);
    while (watching >= plan.watchers && next_row < end_row && !stopped()) {
      ++parked;
      may_watch.wait(lock);
      --parked;
      waking = false;
    }
    const int64_t row = next_row;
    if (row >= end_row || stopped()) {
      may_watch.notify_all();
      return kNoRow;
    }
    next_row = row + 1;
    ++watching;
    return row;
  }

  void wake_one() {
    if (parked.load(std::memory_order_relaxed) > 0 && !waking.load(std::memory_order_relaxed)) {
      std::lock_guard<std::mutex> lock(watch_mutex);  // so that whoever is counted does wait
      if (parked > 0 && !waking.exchange(true)) {
        may_watch.notify_one();
      }
    }
  }

  // How long to look at the clock, from how much too long the sleeps of a caller lasted: a quarter
  // more than the longest, which counts for one percent less with every sleep since.
  struct Spin {
    int64_t longest_ns = 0;

    void slept(int64_t too_long_ns) {
      longest_ns = std::max(too_long_ns, longest_ns - longest_ns / 100);
    }
    int64_t ns() const { return std::clamp(longest_ns + longest_ns / 4, kLeastSpinNs, kMostSpinNs); }
  };

  // Watch until a taken row is due; false if the run ends before. One that was due before it was
  // taken has queued, and is not begun after the drain limit.
  bool wait_until(int64_t due, int64_t row, Spin& spin) {
    // With more callers than cores, one that is in its call may stand behind a watcher that spins.
    const bool others_wait = plan.callers > plan.watchers;
    int64_t now = now_ns(), unwatched_since = kNever;
    const bool queued = now >= due;
    while (now < due) {
      if (stopped() || row >= end_row.load(std::memory_order_relaxed)) {
        return false;
      }
      if (due - now > spin.ns()) {
        const int64_t until = std::min(due - spin.ns(), now + kStopPollNs);
        sleep_until(until);
        spin.slept(now_ns() - until);
      } else if (watching.load(std::memory_order_relaxed) == plan.watchers) {
        unwatched_since = kNever;
      } else if (unwatched_since == kNever) {
        unwatched_since = now;
      } else if (now - unwatched_since > kShortCallNs) {
        wake_one();
      }
      if (others_wait && due - now > kYieldNs) {
        sched_yield();
      }
      now = now_ns();
    }
    return queued ? now <= limit_ns.load(std::memory_order_relaxed) : !stopped();
  }

  void leave_watch() {
    if (watching.fetch_sub(1) == 1 && plan.callers > plan.watchers) {
      // with the lock: a caller that is about to be parked has seen this one watch
      std::lock_guard<std::mutex> lock(watch_mutex);
      if (parked > 0 && !waking.exchange(true)) {
        may_watch.notify_one();
      }
    }
  }

  template <class Call, bool kOnDevice>
  void call_when_due(Call& target, const int32_t caller, CallerDevices* on) {
    const auto order_length = static_cast<int64_t>(order.size());
    Keeper<Call> keeper(kept[caller], plan.kept_outputs);
    Spin spin;
    prctl(PR_SET_TIMERSLACK, 1);
    for (int64_t row = take_row(); row != kNoRow; row = take_row()) {
      const int64_t place = row % plan.room;
      const int32_t input = order[row % order_length];
      const int64_t due = start_ns + schedule_ns[row % schedule_size] + row / schedule_size * plan.period_ns;
      const bool go = wait_for_room(row) && reserve(row + 1);
      if (go) {
        log.caller[place] = caller;
        log.input[place] = input;
      }
      const bool is_due = go && wait_until(due, row, spin);
      leave_watch();
      if (!is_due) {
        break;
      }
      make_call<Call, kOnDevice>(target, caller, input, place, due, keeper, on);
    }
    std::lock_guard<std::mutex> lock(watch_mutex);
    may_watch.notify_all();
  }

  // Take no more calls than are due by now; those are finished within the drain limit.
  void end_at(int64_t rows) {
    std::lock_guard<std::mutex> lock(watch_mutex);
    end_row = std::min(rows, end_row.load());
    set_limit(now_ns() + plan.drain_ns);
    may_watch.notify_all();
  }

  template <class Call>
  void measure(Call& target, int32_t caller, CallerDevices* on) {
    if (open_loop()) {
      on != nullptr ? call_when_due<Call, true>(target, caller, on)
                    : call_when_due<Call, false>(target, caller, on);
    } else {
      on != nullptr ? call_at_once<Call, true>(target, caller, on)
                    : call_at_once<Call, false>(target, caller, on);
    }
  }

  std::unique_ptr<CallerDevices> open_devices(int32_t caller) {
    if (devices.empty()) {
      return nullptr;
    }
    const DeviceUse use{plan.own_streams, plan.wait_by_event, plan.timed, plan.whole_devices,
                        plan.events.empty() ? std::vector<int64_t>() : plan.events[caller]};
    return std::make_unique<CallerDevices>(devices, shared_streams, use,
                                           copies_in.empty() ? nullptr : &copies_in[caller]);
  }

  // Before anything else: the intra-op threads that a caller starts inherit its cores.
  void hold_to_cpus(int32_t caller) {
    if (static_cast<size_t>(caller) < plan.cpus.size() && !plan.cpus[caller].empty()) {
      cpu_set_t set;
      CPU_ZERO(&set);
      for (const int cpu : plan.cpus[caller]) {
        CPU_SET(cpu, &set);
      }
      sched_setaffinity(0, sizeof(set), &set);
    }
    cpu_set_t found;
    if (sched_getaffinity(0, sizeof(found), &found) == 0) {
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &found)) {
          cpus[caller].push_back(cpu);
        }
      }
    }
  }

  template <class Call, class Model>
  void run_caller(Model& model, int32_t caller) {
    hold_to_cpus(caller);
    calling_thread.take_over();
    at::set_num_threads(plan.threads_per_call);
    threads[caller] = at::get_num_threads();
    {
      std::unique_ptr<CallerDevices> on;
      bool opened = true;
      try {
        on = open_devices(caller);
      } catch (...) {  // a device that failed before
        opened = false;
        record(caller, 0, true);
        stop();
      }
      Call target(model, caller);
      const bool warm = opened && warm_up(target, caller, on.get());
      const bool released = wait_at_line();
      while (released && !open_loop() && now_ns() < start_ns) {
        sched_yield();  // until a time that several processes agreed on
      }
      const int64_t before = run_delay_ns();
      if (released && warm) {
        measure(target, caller, on.get());
        run_delays_ns[caller] = run_delay_ns() - before;
      }
    }
    std::lock_guard<std::mutex> lock(mutex);
    ++finished;
    changed.notify_all();
  }
};

template <class Model, class Call>
class Callers {
 public:
  Callers(py::object model, Plan plan, py::buffer log, py::buffer schedule,
          std::vector<int32_t> order, py::buffer budget,
          std::vector<std::vector<Copies>> copies_in)
      : model_(std::move(model)),
        log_(std::move(log)),
        schedule_(std::move(schedule)),
        budget_(std::move(budget)),
        run_(std::make_shared<Run>(std::move(plan), log_.request(true), schedule_.request(),
                                   std::move(order), budget_.request(true),
                                   std::move(copies_in))) {
    auto& native = model_.cast<Model&>();
    try {
      for (int32_t caller = 0; caller < run_->plan.callers; ++caller) {
        threads_.emplace_back([run = run_, &native, caller] {
          run->template run_caller<Call>(native, caller);
        });
      }
    } catch (const std::system_error& error) {
      // Those that were started are waited for: no destructor runs for a half-made object.
      run_->stop();
      join();
      throw std::runtime_error(error.what());
    }
  }

  ~Callers() {
    run_->stop();
    if (std::any_of(threads_.begin(), threads_.end(), [](auto& t) { return t.joinable(); })) {
      // A caller that never returned still uses the model and the log: they are given up.
      model_.release();
      log_.release();
      schedule_.release();
      budget_.release();
      for (auto& thread : threads_) {
        if (thread.joinable()) {
          thread.detach();
        }
      }
    }
  }

  bool wait_ready(double timeout_s) {
    return wait(timeout_s, [&] { return run_->at_line == run_->plan.callers; });
  }

  int64_t release(int64_t start) {
    std::lock_guard<std::mutex> lock(run_->mutex);
    run_->start_ns = start;
    if (run_->plan.duration_ns > 0) {
      run_->set_limit(start + run_->plan.duration_ns);
    }
    run_->released = true;
    run_->changed.notify_all();
    return start;
  }

  bool wait_done(double timeout_s) {
    return wait(timeout_s, [&] { return run_->finished == run_->plan.callers; });
  }

  void stop() { run_->stop(); }
  void end_at(int64_t rows) { run_->end_at(rows); }
  void fold_to(int64_t rows) { run_->folded_rows.store(rows, std::memory_order_release); }
  bool log_was_full() const { return run_->log_was_full; }

  void join() {
    py::gil_scoped_release no_gil;
    for (auto& thread : threads_) {
      thread.join();
    }
  }

  // Rows without disk space behind them may not even be read: that alone can end the process.
  int64_t claimed_rows() const {
    std::lock_guard<std::mutex> lock(run_->mutex);
    const int64_t reserved = run_->reserved_rows;
    const int64_t rows = std::min(run_->next_row.load(), run_->plan.rows);
    return reserved < run_->plan.room ? std::min(rows, reserved) : rows;
  }
  bool disk_full() const { return run_->disk_full; }
  int64_t stopped_ns() const { return run_->stopped_ns; }
  std::vector<std::vector<int64_t>> first_calls_ns() const { return run_->first_calls_ns; }
  std::vector<int64_t> run_delays_ns() const { return run_->run_delays_ns; }
  std::vector<std::vector<int>> cpus() const { return run_->cpus; }
  std::vector<int> threads() const { return run_->threads; }

  // For every caller, pairs of an input's number and a list of what was returned for it.
  py::list kept_outputs() const {
    py::list callers;
    for (const auto& own : run_->kept) {
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

  std::vector<std::tuple<int32_t, int32_t, bool>> failures() {
    std::lock_guard<std::mutex> lock(run_->mutex);
    std::vector<std::tuple<int32_t, int32_t, bool>> found;
    for (const auto& one : run_->failures) {
      found.emplace_back(one.caller, one.input, one.warming_up);
    }
    return found;
  }

  void raise_failure(size_t number) {
    std::exception_ptr error;
    {
      std::lock_guard<std::mutex> lock(run_->mutex);
      error = run_->failures.at(number).error;
    }
    std::rethrow_exception(error);
  }

 private:
  template <class Condition>
  bool wait(double timeout_s, Condition condition) {
    py::gil_scoped_release no_gil;
    std::unique_lock<std::mutex> lock(run_->mutex);
    return run_->changed.wait_for(lock, std::chrono::duration<double>(timeout_s), condition);
  }

  py::object model_;
  py::buffer log_;
  py::buffer schedule_;
  py::buffer budget_;
  std::shared_ptr<Run> run_;
  std::vector<std::thread> threads_;
};

// ---- what a Python caller has of the devices ----

std::vector<c10::Device> devices_of(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

// One Python caller's streams, events and stages. Around a call of Python the GIL changes hands
// once, where the caller waits for the device; what has to be enqueued, read and stamped beside the
// call is done there as well. CallerDevices in device_work.py does the same in Python.
class PythonDevices {
 public:
  PythonDevices(const std::vector<std::string>& devices, const std::vector<c10::Stream>& shared,
                const DeviceUse& use, std::vector<Copies> copies_in, py::object tensors_of,
                const py::buffer& log, int64_t room, uint64_t seed)
      : copies_in_(std::move(copies_in)),
        tensors_of_(std::move(tensors_of)),
        log_(log.request(true)),
        room_(room),
        columns_(static_cast<char*>(log_.ptr), room),
        devices_(devices_of(devices), shared, use, copies_in_.empty() ? nullptr : &copies_in_),
        random_(seed) {}

  // Calls from here on are those of the rows from this place of the log on; before, of none.
  void go_to(int64_t place) { place_ = place; }

  // Time the stages of one call in so many, a power of two; of every call until this is said.
  void time_one_in(uint64_t count) { mask_ = count - 1; }

  // Closed loop: the calls of the rows [begin, end), one after another, as PythonCaller._call_rows
  // makes them; whether the caller should go on after them. What belongs to the caller is given
  // each time: held here, it would hold this in a cycle that is never collected.
  bool rows(int64_t begin, int64_t end, int32_t caller, const py::buffer& order,
            const py::list& functions, const py::list& limit_ns, const py::object& failed,
            const py::object& keeper) {
    const auto drawn = order.request();
    const auto* inputs = static_cast<const int32_t*>(drawn.ptr);
    auto until_kept = keeper.attr("calls_until_next").cast<int64_t>();
    bool in_time = true;
    for (int64_t row = begin; in_time && row != end; ++row, --until_kept) {
      const int64_t place = row % room_;
      const int32_t input = inputs[row % drawn.size];
      columns_.caller[place] = caller;
      columns_.input[place] = input;
      columns_.error[place] = -1;
      go_to(place);
      py::object output;
      int64_t finished;
      columns_.scheduled_ns[place] = columns_.started_ns[place] = now_ns();
      try {
        output = call(input, functions[input]);
        finished = now_ns();
      } catch (const py::error_already_set& error) {
        finished = now_ns();
        if (error.trace()) {  // which says where the call failed
          PyException_SetTraceback(error.value().ptr(), error.trace().ptr());
        }
        columns_.error[place] = failed(error.value(), input).cast<int32_t>();
      }
      columns_.finished_ns[place] = finished;
      if (output && until_kept <= 0) {
        until_kept = keeper.attr("keep")(input, output).cast<int64_t>();
      }
      in_time = finished <= limit_ns[0].cast<int64_t>();
    }
    keeper.attr("calls_until_next") = until_kept;
    return in_time;
  }

  // Returns when the work of the call on the devices is finished, and writes its stages.
  py::object call(int32_t input, const py::object& function) {
    const int64_t place = place_ == kNoPlace ? kNoPlace : place_++;
    devices_.time_next(drawn());
    try {
      if (devices_.timing()) {  // a record may wait for the driver: not with the GIL in hand
        const py::gil_scoped_release no_gil;
        devices_.begin();
      } else {
        devices_.begin();
      }
      const bool copies = !copies_in_.empty();
      if (copies) {
        const py::gil_scoped_release no_gil;
        devices_.copy_in(input);
      }
      auto output = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(function.ptr()));
      if (!output) {
        throw py::error_already_set();
      }
      std::vector<at::Tensor> returned;
      if (copies) {
        devices_.called();
        returned = tensors_of_(output).cast<std::vector<at::Tensor>>();
      }
      int64_t issued = now_ns();
      CallerDevices::Stages stages;
      {
        const py::gil_scoped_release no_gil;
        if (copies) {
          devices_.copy_out(returned, input);
        }
        if (copies || devices_.ends_with_mark()) {
          devices_.end();
          issued = now_ns();
        }
        devices_.wait();
        stages = devices_.stages();
      }
      if (place != kNoPlace) {
        columns_.issue_ns[place] = issued - columns_.started_ns[place];
        devices_.write(stages, columns_, place);
      }
      return output;
    } catch (const py::error_already_set&) {
      settle();
      throw;
    } catch (...) {  // in the words, and as the exception, that torch's own bindings make of it
      const auto error = std::current_exception();
      settle();
      torch::translate_exception_to_python(error);
      throw py::error_already_set();
    }
  }

 private:
  static constexpr int64_t kNoPlace = -1;

  void settle() const {
    const py::gil_scoped_release no_gil;
    devices_.settle();
  }

  // SplitMix64 (Steele, Lea & Flood 2014): which calls are timed depends on the seed, and on nothing
  // that a call does.
  bool drawn() {
    random_ += 0x9E3779B97F4A7C15;
    uint64_t value = random_;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
    return ((value ^ (value >> 31)) & mask_) == 0;
  }

  const std::vector<Copies> copies_in_;
  const py::object tensors_of_;
  const py::buffer_info log_;  // holds the memory of the log, whoever else lets go of it
  const int64_t room_;
  const Columns columns_;
  CallerDevices devices_;
  int64_t place_ = kNoPlace;
  uint64_t random_, mask_ = 0;
};

// What calls of nothing take that wait for an idle device, by a thread with a stream for each use:
// the least that callers could do. Nanoseconds between two calls of a thread; 0 if the device has
// failed.
double bare_waits_ns(const std::vector<std::string>& devices,
                     const std::vector<c10::Stream>& shared, const std::vector<DeviceUse>& uses,
                     int64_t duration_ns) {
  py::gil_scoped_release no_gil;
  const auto all = devices_of(devices);
  std::atomic<size_t> ready{0}, expected{uses.size()};
  std::atomic<int64_t> busy_ns{0}, calls{0};
  const auto call_and_wait = [&](const DeviceUse& use) {
    try {
      CallerDevices on(all, shared, use, nullptr);
      on.time_next(false);
      ++ready;
      while (ready.load() < expected.load()) {
        sched_yield();
      }
      const int64_t started = now_ns();
      int64_t now = started, own = 0;
      for (; now - started < duration_ns; ++own, now = now_ns()) {
        on.end();
        on.wait();
      }
      busy_ns += now - started;
      calls += own;
    } catch (...) {  // the callers' own calls will say so
      ++ready;
    }
  };
  std::vector<std::thread> threads;
  try {
    for (const auto& use : uses) {
      threads.emplace_back(call_and_wait, std::cref(use));
    }
  } catch (const std::system_error&) {  // no more threads: those that there are
    expected = threads.size();
  }
  for (auto& thread : threads) {
    thread.join();
  }
  return calls > 0 ? static_cast<double>(busy_ns) / static_cast<double>(calls) : 0.0;
}

// What a run is held against: the same calls by one thread, no stamps, no counter, no log.
template <class Model, class Call>
double bare_loop_ns(Model& model, int64_t calls) {
  py::gil_scoped_release no_gil;
  Call target(model, 0);
  const int64_t started = now_ns();
  for (int64_t i = 0; i < calls; ++i) {
    target.call(0);
    target.release();
  }
  return static_cast<double>(now_ns() - started) / static_cast<double>(calls);
}

template <class Model, class Call>
void declare_callers(py::module_& m, const char* name) {
  using Self = Callers<Model, Call>;
  py::class_<Self>(m, name)
      .def(py::init<py::object, Plan, py::buffer, py::buffer, std::vector<int32_t>, py::buffer,
                    std::vector<std::vector<Copies>>>())
      .def("wait_ready", &Self::wait_ready)
      .def("release", &Self::release)
      .def("wait_done", &Self::wait_done)
      // without the GIL: callers may hold the locks
      .def("stop", &Self::stop, py::call_guard<py::gil_scoped_release>())
      .def("end_at", &Self::end_at, py::call_guard<py::gil_scoped_release>())
      .def("fold_to", &Self::fold_to)
      .def("log_was_full", &Self::log_was_full)
      .def("join", &Self::join)
      .def("claimed_rows", &Self::claimed_rows)
      .def("disk_full", &Self::disk_full)
      .def("stopped_ns", &Self::stopped_ns)
      .def("first_calls_ns", &Self::first_calls_ns)
      .def("run_delays_ns", &Self::run_delays_ns)
      .def("cpus", &Self::cpus)
      .def("threads", &Self::threads)
      .def("kept_outputs", &Self::kept_outputs)
      .def("failures", &Self::failures)
      .def("raise_failure", &Self::raise_failure);
}

}  // namespace

// The name is written out: torch numbers TORCH_EXTENSION_NAME when a process builds twice.
PYBIND11_MODULE(inferload_native_callers, m) {
  py::class_<ScriptModel>(m, "ScriptModel")
      .def(py::init<const torch::jit::Module&, const py::list&>())
      .def("bare_loop_ns", &bare_loop_ns<ScriptModel, ScriptCall>);
  py::class_<AotiModel>(m, "AotiModel")
      .def(py::init<py::object, std::vector<std::vector<std::vector<at::Tensor>>>>())
      .def("bare_loop_ns", &bare_loop_ns<AotiModel, AotiCall>);
  py::class_<GraphModel>(m, "GraphModel").def(py::init<const py::list&>());
  py::class_<MixModel>(m, "MixModel")
      .def(py::init<const py::list&, std::vector<int32_t>, std::vector<int32_t>>());
  py::class_<NoModel>(m, "NoModel").def(py::init<int32_t>());
  py::class_<Plan>(m, "Plan")
      .def(py::init<>())
      .def_readwrite("callers", &Plan::callers)
      .def_readwrite("rows", &Plan::rows)
      .def_readwrite("room", &Plan::room)
      .def_readwrite("open_ended", &Plan::open_ended)
      .def_readwrite("duration_ns", &Plan::duration_ns)
      .def_readwrite("warmup_calls", &Plan::warmup_calls)
      .def_readwrite("threads_per_call", &Plan::threads_per_call)
      .def_readwrite("stop_on_error", &Plan::stop_on_error)
      .def_readwrite("log_fd", &Plan::log_fd)
      .def_readwrite("reserved_rows", &Plan::reserved_rows)
      .def_readwrite("callers_in_all", &Plan::callers_in_all)
      .def_readwrite("cpus", &Plan::cpus)
      .def_readwrite("warmup_order", &Plan::warmup_order)
      .def_readwrite("growth_rows", &Plan::growth_rows)
      .def_readwrite("devices", &Plan::devices)
      .def_readwrite("own_streams", &Plan::own_streams)
      .def_readwrite("wait_by_event", &Plan::wait_by_event)
      .def_readwrite("timed", &Plan::timed)
      .def_readwrite("whole_devices", &Plan::whole_devices)
      .def_readwrite("events", &Plan::events)
      .def_readwrite("stages", &Plan::stages)
      .def_readwrite("kept_outputs", &Plan::kept_outputs)
      .def_readwrite("period_ns", &Plan::period_ns)
      .def_readwrite("drain_ns", &Plan::drain_ns)
      .def_readwrite("watchers", &Plan::watchers);
  declare_callers<ScriptModel, ScriptCall>(m, "ScriptCallers");
  declare_callers<AotiModel, AotiCall>(m, "AotiCallers");
  declare_callers<GraphModel, GraphCall>(m, "GraphCallers");
  declare_callers<MixModel, MixCall>(m, "MixCallers");
  declare_callers<NoModel, NoCall>(m, "NoCallers");
  py::class_<DeviceUse>(m, "DeviceUse")
      .def(py::init([](bool own_streams, bool by_event, bool timed, bool whole_devices,
                       std::vector<int64_t> events) {
        return DeviceUse{own_streams, by_event, timed, whole_devices, std::move(events)};
      }));
  py::class_<PythonDevices>(m, "PythonDevices", py::dynamic_attr())
      .def(py::init<const std::vector<std::string>&, const std::vector<c10::Stream>&,
                    const DeviceUse&, std::vector<Copies>, py::object, const py::buffer&, int64_t,
                    uint64_t>())
      .def("go_to", &PythonDevices::go_to)
      .def("time_one_in", &PythonDevices::time_one_in)
      .def("rows", &PythonDevices::rows)
      .def("calling", [](const py::object& self, int32_t input, const py::object& function) {
        return py::cpp_function([self, on = self.cast<PythonDevices*>(), input, function] {
          return on->call(input, function);
        });
      });
  m.def("bare_waits_ns", &bare_waits_ns);
  m.def("take_calls", [](py::buffer budget, int64_t most, int64_t among) {
    return take_calls(static_cast<int64_t*>(budget.request(true).ptr), most, among);
  });
}
