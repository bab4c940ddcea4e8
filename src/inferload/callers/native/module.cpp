// Callers that run without the GIL: one C++ thread each, for TorchScript graphs and AOTInductor
// packages. Python starts them, waits for them and reads the log they write (log_file.py). What
// Python sees of them is bound here; the headers beside it have a role each, and are one
// translation unit, because torch's take 20 s. The way in is callers.h, run.h and caller.h.

#include <torch/extension.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bare_loops.h"
#include "claims.h"
#include "counter.h"
#include "gathering.h"
#include "held_callers.h"
#include "job.h"
#include "layout.h"
#include "models.h"
#include "python_devices.h"

using namespace inferload;

template <class Model, class Call>
void declare_callers(py::module_& m, const char* name) {
  using Self = HeldCallers<Model, Call>;
  py::class_<Self>(m, name)
      .def(py::init<py::object, Job, py::buffer, py::buffer, std::vector<int32_t>, py::buffer,
                    std::vector<std::vector<Copies>>, py::object>())
      // stop and end_at without the GIL: callers may hold the locks
      .def("wait_ready", &Self::wait_ready)
      .def("release", &Self::release)
      .def("wait_done", &Self::wait_done)
      .def("stop", &Self::stop, py::call_guard<py::gil_scoped_release>())
      .def("end_at", &Self::end_at, py::call_guard<py::gil_scoped_release>())
      .def("fold_to", &Self::fold_to)
      .def("log_was_full", &Self::log_was_full)
      .def("join", &Self::join)
      .def("claimed_rows", &Self::claimed_rows)
      .def("disk_full", &Self::disk_full)
      .def("stopped_ns", &Self::stopped_ns)
      .def("limited_to", &Self::limited_to)
      .def("first_calls_ns", &Self::first_calls_ns)
      .def("run_delays_ns", &Self::run_delays_ns)
      .def("by_counter", &Self::by_counter)
      .def("counters_off_ns", &Self::counters_off_ns)
      .def("cpus", &Self::cpus)
      .def("threads", &Self::threads)
      .def("kept_outputs", &Self::kept_outputs)
      .def("failures", &Self::failures)
      .def("raise_failure", &Self::raise_failure);
}

// The name is written out: torch numbers TORCH_EXTENSION_NAME when a process builds twice.
PYBIND11_MODULE(inferload_native_callers, m) {
  py::class_<ScriptModel>(m, "ScriptModel")
      .def(py::init<const torch::jit::Module&, const py::list&>())
      .def("bare_loop_ns", &bare_loop_ns<ScriptModel, ScriptCall>)
      .def("bare_batches_ns", &bare_batches_ns<ScriptModel, ScriptCall>);
  py::class_<AotiModel>(m, "AotiModel")
      .def(py::init<py::object, std::vector<std::vector<std::vector<at::Tensor>>>>())
      .def("bare_loop_ns", &bare_loop_ns<AotiModel, AotiCall>);
  py::class_<GraphModel>(m, "GraphModel").def(py::init<const py::list&>());
  py::class_<MixModel>(m, "MixModel")
      .def(py::init<const py::list&, std::vector<int32_t>, std::vector<int32_t>>());
  py::class_<NoModel>(m, "NoModel").def(py::init<int32_t>());
  py::class_<Job>(m, "Job")
      .def(py::init<>())
      .def_readwrite("callers", &Job::callers)
      .def_readwrite("rows", &Job::rows)
      .def_readwrite("room", &Job::room)
      .def_readwrite("open_ended", &Job::open_ended)
      .def_readwrite("duration_ns", &Job::duration_ns)
      .def_readwrite("warmup_calls", &Job::warmup_calls)
      .def_readwrite("threads_per_call", &Job::threads_per_call)
      .def_readwrite("stop_on_error", &Job::stop_on_error)
      .def_readwrite("log_fd", &Job::log_fd)
      .def_readwrite("reserved_rows", &Job::reserved_rows)
      .def_readwrite("callers_in_all", &Job::callers_in_all)
      .def_readwrite("cpus", &Job::cpus)
      .def_readwrite("warmup_order", &Job::warmup_order)
      .def_readwrite("growth_rows", &Job::growth_rows)
      .def_readwrite("devices", &Job::devices)
      .def_readwrite("own_streams", &Job::own_streams)
      .def_readwrite("wait_by_event", &Job::wait_by_event)
      .def_readwrite("timed", &Job::timed)
      .def_readwrite("whole_devices", &Job::whole_devices)
      .def_readwrite("events", &Job::events)
      .def_readwrite("optional", &Job::optional)
      .def_readwrite("kept_outputs", &Job::kept_outputs)
      .def_readwrite("period_ns", &Job::period_ns)
      .def_readwrite("drain_ns", &Job::drain_ns)
      .def_readwrite("watchers", &Job::watchers)
      .def_readwrite("group_of", &Job::group_of)
      .def_readwrite("most_of", &Job::most_of)
      .def_readwrite("max_delay_ns", &Job::max_delay_ns)
      .def_readwrite("clients_first_ns", &Job::clients_first_ns)
      .def_readwrite("think_ns", &Job::think_ns);
  py::class_<GatherGroup>(m, "GatherGroup")
      .def(py::init([](std::vector<int32_t> joins, int64_t ends, int64_t first,
                       std::vector<int64_t> sizes, std::vector<at::Tensor> pads, bool by_entry) {
        return GatherGroup{std::move(joins), ends,    first, std::move(sizes),
                           std::move(pads),  by_entry};
      }));
  py::class_<GatherPlan>(m, "GatherPlan")
      .def(py::init<>())
      .def_readwrite("groups", &GatherPlan::groups)
      .def_readwrite("group_of", &GatherPlan::group_of)
      .def_readwrite("ends_of", &GatherPlan::ends_of)
      .def_readwrite("items_of", &GatherPlan::items_of)
      .def_readwrite("elements_of", &GatherPlan::elements_of)
      .def_readwrite("sources", &GatherPlan::sources)
      .def_readwrite("into", &GatherPlan::into)
      .def_readwrite("examples", &GatherPlan::examples)
      .def_readwrite("before", &GatherPlan::before);
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
  py::class_<PythonCalls>(m, "PythonCalls")
      .def(py::init<const py::buffer&, int64_t>())
      .def("rows", &PythonCalls::rows);
  m.def("bare_waits_ns", &bare_waits_ns);
  m.def("try_counter", &try_counter, py::call_guard<py::gil_scoped_release>());
  m.def("take_calls", [](py::buffer budget, int64_t most, int64_t among) {
    return take_calls(static_cast<int64_t*>(budget.request(true).ptr), most, among);
  });
  m.def("layout", &layout);
}
