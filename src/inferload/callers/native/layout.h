// What Python must have as it is here: it compares this with its own when it loads the library.

#pragma once

#include <torch/extension.h>

#include <string>

#include "caller.h"
#include "failures.h"
#include "log_columns.h"
#include "watch.h"

namespace inferload {

inline py::dict layout() {
  py::list columns, fatal_words, memory_words;
  Columns().each([&](const char* name, auto* column) {
    columns.append(py::make_tuple(name, "<i" + std::to_string(sizeof(*column))));
  });
  for (const char* words : kFatalWords) {
    fatal_words.append(words);
  }
  for (const char* words : kMemoryWords) {
    memory_words.append(words);
  }
  py::dict found;
  found["columns"] = py::tuple(columns);
  found["optional"] = kOptional;
  found["header_bytes"] = kHeaderBytes;
  found["block_rows"] = kBlockRows;
  found["block_ns"] = kBlockNs;
  found["no_stage"] = kNoStage;
  found["stop_poll_ns"] = kStopPollNs;
  found["first_calls"] = kFirstCalls;
  found["distinct_errors"] = kDistinctErrors;
  found["fatal_words"] = py::tuple(fatal_words);
  found["memory_words"] = py::tuple(memory_words);
  return found;
}

}  // namespace inferload
