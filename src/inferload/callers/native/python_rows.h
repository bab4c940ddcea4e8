// The calls of a Python caller, one after another, with nothing of Python between them.

#pragma once

#include <torch/extension.h>

#include <cstdint>

#include "clock.h"
#include "log_columns.h"

namespace inferload {

// Closed loop: the calls of the rows [begin, end), as PythonCaller._call_rows makes them; whether
// the caller should go on after them. call(place, input) returns what was returned, or throws what
// was raised. What belongs to the caller is given each time: held here, it would hold this in a
// cycle that is never collected.
template <class Call>
bool python_rows(const Columns& columns, int64_t room, int64_t begin, int64_t end, int32_t caller,
                 const py::buffer& order, const py::list& limit_ns, const py::object& failed,
                 const py::object& keeper, const Call& call) {
  const auto drawn = order.request();
  const auto* inputs = static_cast<const int32_t*>(drawn.ptr);
  auto until_kept = keeper.attr("calls_until_next").cast<int64_t>();
  bool in_time = true;
  for (int64_t row = begin; in_time && row != end; ++row, --until_kept) {
    const int64_t place = row % room;
    const int32_t input = inputs[row % drawn.size];
    columns.caller[place] = caller;
    columns.input[place] = input;
    columns.error[place] = -1;
    py::object output;
    int64_t finished;
    const int64_t started = now_ns();
    columns.scheduled_ns[place] = started;
    columns.start(place, started);
    try {
      output = call(place, input);
      finished = now_ns();
    } catch (const py::error_already_set& error) {
      finished = now_ns();
      if (error.trace()) {  // which says where the call failed
        PyException_SetTraceback(error.value().ptr(), error.trace().ptr());
      }
      columns.error[place] = failed(error.value(), input).template cast<int32_t>();
    }
    columns.finish(place, finished);
    if (output && until_kept <= 0) {
      until_kept = keeper.attr("keep")(input, output).template cast<int64_t>();
    }
    in_time = finished <= limit_ns[0].template cast<int64_t>();
  }
  keeper.attr("calls_until_next") = until_kept;
  return in_time;
}

// What a Python caller has whose calls have no work on devices.
class PythonCalls {
 public:
  PythonCalls(const py::buffer& log, int64_t room)
      : log_(log.request(true)), room_(room), columns_(static_cast<char*>(log_.ptr), room) {}

  // As python_rows. Answers of a class in "whole" are whole when a call returns; others are given
  // to "unseen", which returns what they come to.
  bool rows(int64_t begin, int64_t end, int32_t caller, const py::buffer& order,
            const py::list& functions, const py::set& whole, const py::object& unseen,
            const py::list& limit_ns, const py::object& failed, const py::object& keeper) const {
    const PyTypeObject* seen = nullptr;
    return python_rows(columns_, room_, begin, end, caller, order, limit_ns, failed, keeper,
                       [&](int64_t /*place*/, int32_t input) {
                         auto* function = PyList_GET_ITEM(functions.ptr(), input);
                         auto output =
                             py::reinterpret_steal<py::object>(PyObject_CallNoArgs(function));
                         if (!output) {
                           throw py::error_already_set();
                         }
                         if (Py_TYPE(output.ptr()) != seen) {
                           if (whole.contains(py::type::handle_of(output))) {
                             seen = Py_TYPE(output.ptr());
                           } else {
                             output = unseen(output);
                           }
                         }
                         return output;
                       });
  }

 private:
  const py::buffer_info log_;  // holds the memory of the log, whoever else lets go of it
  const int64_t room_;
  const Columns columns_;
};

}  // namespace inferload
