// Callers that run without the GIL: one C++ thread each, for TorchScript graphs and AOTInductor
// packages. Python starts them, waits for them and reads the log they write (log_file.py).

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/autocast_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fcntl.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/python/pybind_utils.h>
#include <torch/extension.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <ctime>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr int64_t kHeaderBytes = 4096;
constexpr int64_t kBlockRows = 1024;
constexpr int64_t kBlockNs = 1'000'000;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr size_t kDistinctErrors = 256;

// The columns of a log file, as COLUMNS in log_file.py.
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
  }
  int64_t *scheduled_ns, *started_ns, *finished_ns;
  int32_t *caller, *input, *error;
};

// Set aside disk space for rows [from, to) of every column; errno, or 0.
int reserve_rows(int fd, int64_t room, int64_t from, int64_t to) {
  int64_t offset = kHeaderBytes;
  for (const int64_t width : {8, 8, 8, 4, 4, 4}) {
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

// One caller's view of a model: call() runs input k, release() lets go of what it returned.
struct ScriptCall {
  ScriptCall(ScriptModel& model, size_t caller)
      : function(model.method.function()), inputs(model.inputs[caller]) {}
  void call(int32_t k) {
    stack.assign(inputs[k].begin(), inputs[k].end());
    function.run(stack);
  }
  void release() { stack.clear(); }

  torch::jit::Function& function;
  const std::vector<torch::jit::Stack>& inputs;
  torch::jit::Stack stack;
};

struct AotiCall {
  AotiCall(AotiModel& model, size_t caller) : loader(*model.loader), inputs(model.inputs[caller]) {}
  void call(int32_t k) { outputs = loader.run(inputs[k]); }
  void release() { outputs.clear(); }

  torch::inductor::AOTIModelPackageLoader& loader;
  const std::vector<std::vector<at::Tensor>>& inputs;
  std::vector<at::Tensor> outputs;
};

// ---- the state of the thread that starts a run, as each caller takes it over ----

class CallingThread {
 public:
  CallingThread() : cache_enabled_(at::autocast::is_autocast_cache_enabled()) {
    for (const auto device : at::autocast::_AUTOCAST_SUPPORTED_DEVICES) {
      dtypes_.emplace_back(device, at::autocast::get_autocast_dtype(device));
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
  std::vector<std::string> synchronize;  // devices, such as "cuda:0"
};

struct Failure {
  std::exception_ptr error;
  std::string what;
  int32_t caller;
  int32_t input;
  bool warming_up;
};

// All that callers share. It outlives the Callers object if a caller never returns.
struct Run {
  Run(Plan plan, py::buffer_info log, std::vector<int32_t> order)
      : plan(std::move(plan)),
        log(static_cast<char*>(log.ptr), this->plan.room),
        order(std::move(order)),
        devices(this->plan.synchronize.begin(), this->plan.synchronize.end()),
        reserved_rows(this->plan.reserved_rows),
        first_call_ns(this->plan.callers, 0) {}

  const Plan plan;
  const Columns log;
  const std::vector<int32_t> order;
  const CallingThread calling_thread;
  const std::vector<c10::Device> devices;

  alignas(64) std::atomic<int64_t> next_row{0};
  // A call that finishes later than this is the caller's last one.
  alignas(64) std::atomic<int64_t> limit_ns{kNever};
  alignas(64) std::mutex mutex;
  std::condition_variable changed;
  bool released = false;
  int32_t at_line = 0;
  int32_t finished = 0;
  int64_t reserved_rows;
  bool disk_full = false;
  std::vector<Failure> failures;
  std::vector<int64_t> first_call_ns;

  bool stopped() const { return limit_ns.load(std::memory_order_relaxed) == 0; }

  void stop() {
    limit_ns.store(0, std::memory_order_relaxed);
    std::lock_guard<std::mutex> lock(mutex);
    changed.notify_all();
  }

  // The next range of rows for a caller. Ranges shrink towards the end (guided self-scheduling,
  // Polychronopoulos & Kuck 1987), so that the count is met exactly, nobody waits for one
  // caller's long range, and the counter is rarely touched.
  // Where the number of calls is open, a caller claims as many as it makes in about 1 ms, so that
  // slow calls take their inputs in order and fast ones rarely touch the counter.
  std::pair<int64_t, int64_t> claim(int64_t in_a_while) {
    int64_t begin = next_row.load(std::memory_order_relaxed);
    int64_t end;
    do {
      const int64_t left = plan.rows - begin;
      if (left <= 0 || stopped()) {
        return {0, 0};
      }
      const int64_t fair = plan.open_ended ? in_a_while : left / (4 * plan.callers);
      end = begin + std::clamp<int64_t>(fair, 1, std::min(kBlockRows, left));
    } while (!next_row.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    if (plan.open_ended && !reserve(end)) {
      return {0, 0};
    }
    return {begin, end};
  }

  // Disk space before use: a page of the map with no disk behind it would end the process.
  bool reserve(int64_t rows) {
    std::lock_guard<std::mutex> lock(mutex);
    while (reserved_rows < rows) {
      const int64_t to = std::min(reserved_rows + plan.growth_rows, plan.room);
      if (reserve_rows(plan.log_fd, plan.room, reserved_rows, to) != 0) {
        disk_full = true;
        limit_ns.store(0, std::memory_order_relaxed);
        return false;
      }
      reserved_rows = to;
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
    std::lock_guard<std::mutex> lock(mutex);
    for (size_t i = 0; i < failures.size(); ++i) {
      if (failures[i].what == what || i + 1 == kDistinctErrors) {
        return static_cast<int32_t>(i);
      }
    }
    failures.push_back({error, what, caller, input, warming_up});
    return static_cast<int32_t>(failures.size() - 1);
  }

  void synchronize() const {
    for (const auto& device : devices) {
      c10::impl::VirtualGuardImpl(device.type())
          .synchronizeDevice(std::max<c10::DeviceIndex>(device.index(), 0));
    }
  }

  template <class Call>
  bool warm_up(Call& target, int32_t caller, int32_t inputs) {
    for (int64_t n = 0; n < plan.warmup_calls && !stopped(); ++n) {
      const auto input = static_cast<int32_t>(n % inputs);
      const int64_t started = now_ns();
      try {
        target.call(input);
        synchronize();
      } catch (...) {
        // When errors are recorded, only those of measured calls count.
        if (plan.stop_on_error) {
          record(caller, input, true);
          stop();
          return false;
        }
      }
      if (n == 0) {
        first_call_ns[caller] = now_ns() - started;
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

  template <class Call, bool kSynchronize>
  void measure(Call& target, const int32_t caller) {
    const auto order_length = static_cast<int64_t>(order.size());
    int64_t in_a_while = 1;
    for (auto [row, end] = claim(1); row != end; std::tie(row, end) = claim(in_a_while)) {
      int64_t place = row % order_length;
      for (int64_t r = row; r != end; ++r) {
        const int32_t input = order[place];
        if (++place == order_length) {
          place = 0;
        }
        log.caller[r] = caller;
        log.input[r] = input;
        int32_t error = -1;
        int64_t finished;
        const int64_t started = now_ns();
        log.scheduled_ns[r] = started;
        log.started_ns[r] = started;
        try {
          target.call(input);
          if constexpr (kSynchronize) {
            synchronize();
          }
          finished = now_ns();
        } catch (...) {
          finished = now_ns();
          error = record(caller, input, false);
          if (plan.stop_on_error) {
            limit_ns.store(0, std::memory_order_relaxed);
          }
        }
        log.error[r] = error;
        log.finished_ns[r] = finished;
        target.release();
        if (finished > limit_ns.load(std::memory_order_relaxed)) {
          return;
        }
      }
      const bool fast = log.finished_ns[end - 1] - log.started_ns[row] < kBlockNs;
      in_a_while = std::clamp<int64_t>(fast ? 2 * in_a_while : in_a_while / 2, 1, kBlockRows);
    }
  }

  template <class Call, class Model>
  void run_caller(Model& model, int32_t caller) {
    calling_thread.take_over();
    at::set_num_threads(plan.threads_per_call);
    {
      Call target(model, caller);
      const bool warm = warm_up(target, caller, static_cast<int32_t>(model.inputs[caller].size()));
      if (wait_at_line() && warm) {
        if (devices.empty()) {
          measure<Call, false>(target, caller);
        } else {
          measure<Call, true>(target, caller);
        }
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
  Callers(py::object model, Plan plan, py::buffer log, std::vector<int32_t> order)
      : model_(std::move(model)),
        log_(std::move(log)),
        run_(std::make_shared<Run>(std::move(plan), log_.request(true), std::move(order))) {
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

  int64_t release() {
    std::lock_guard<std::mutex> lock(run_->mutex);
    const int64_t start = now_ns();
    if (!run_->stopped() && run_->plan.duration_ns > 0) {
      run_->limit_ns.store(start + run_->plan.duration_ns, std::memory_order_relaxed);
    }
    run_->released = true;
    run_->changed.notify_all();
    return start;
  }

  bool wait_done(double timeout_s) {
    return wait(timeout_s, [&] { return run_->finished == run_->plan.callers; });
  }

  void stop() { run_->stop(); }

  void join() {
    py::gil_scoped_release no_gil;
    for (auto& thread : threads_) {
      thread.join();
    }
  }

  // Rows without disk space behind them may not even be read: that alone can end the process.
  int64_t claimed_rows() const {
    std::lock_guard<std::mutex> lock(run_->mutex);
    return std::min({run_->next_row.load(), run_->reserved_rows, run_->plan.rows});
  }
  bool disk_full() const { return run_->disk_full; }
  std::vector<int64_t> first_call_ns() const { return run_->first_call_ns; }

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
  std::shared_ptr<Run> run_;
  std::vector<std::thread> threads_;
};

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
      .def(py::init<py::object, Plan, py::buffer, std::vector<int32_t>>())
      .def("wait_ready", &Self::wait_ready)
      .def("release", &Self::release)
      .def("wait_done", &Self::wait_done)
      .def("stop", &Self::stop)
      .def("join", &Self::join)
      .def("claimed_rows", &Self::claimed_rows)
      .def("disk_full", &Self::disk_full)
      .def("first_call_ns", &Self::first_call_ns)
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
  py::class_<Plan>(m, "Plan")
      .def(py::init([](int32_t callers, int64_t rows, int64_t room, bool open_ended, int64_t duration_ns,
                       int64_t warmup_calls, int threads_per_call, bool stop_on_error, int log_fd,
                       int64_t reserved_rows, int64_t growth_rows, const std::vector<std::string>& synchronize) {
             return Plan{callers, rows, room, open_ended, duration_ns, warmup_calls, threads_per_call,
                         stop_on_error, log_fd, reserved_rows, growth_rows,
                         synchronize};
           }),
           py::kw_only(), py::arg("callers"), py::arg("rows"), py::arg("room"), py::arg("open_ended"),
           py::arg("duration_ns"), py::arg("warmup_calls"), py::arg("threads_per_call"),
           py::arg("stop_on_error"), py::arg("log_fd"), py::arg("reserved_rows"),
           py::arg("growth_rows"), py::arg("synchronize"));
  declare_callers<ScriptModel, ScriptCall>(m, "ScriptCallers");
  declare_callers<AotiModel, AotiCall>(m, "AotiCallers");
}
