// What a Python caller has of the devices.

#pragma once

#include <torch/csrc/Exceptions.h>
#include <torch/extension.h>

#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "caller_devices.h"
#include "clock.h"
#include "job.h"
#include "log_columns.h"
#include "python_rows.h"

namespace inferload {

// One Python caller's streams, events and stages. Around a call of Python the GIL changes hands
// once, where the caller waits for the device; what has to be enqueued, read and stamped beside the
// call is done there as well. InterpretedDevices in interpreted_devices.py does the same in Python.
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

  // As python_rows.
  bool rows(int64_t begin, int64_t end, int32_t caller, const py::buffer& order,
            const py::list& functions, const py::list& limit_ns, const py::object& failed,
            const py::object& keeper) {
    return python_rows(columns_, room_, begin, end, caller, order, limit_ns, failed, keeper,
                       [&](int64_t place, int32_t input) {
                         go_to(place);
                         return call(input, functions[input]);
                       });
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

  // SplitMix64 (Steele, Lea & Flood 2014): which calls are timed depends on the seed, and on
  // nothing that a call does.
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

}  // namespace inferload
