// What calls raised.

#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <iterator>
#include <mutex>
#include <string>
#include <vector>

namespace inferload {

// A model that fails in ever new words must not fill the memory: the last entry takes the rest.
constexpr size_t kDistinctErrors = 256;

// What says that a device is lost to the process, as FATAL_WORDS in device_errors.py.
constexpr const char* kFatalWords[] = {
    "device-side assert",   "illegal memory access",   "illegal address",
    "illegal instruction",  "misaligned address",      "unspecified launch failure",
    "hardware stack error", "invalid program counter", "invalid address space",
    "uncorrectable ECC",    "context is destroyed"};

inline bool is_fatal(const std::string& what) {
  for (const char* words : kFatalWords) {
    if (what.find(words) != std::string::npos) {
      return true;
    }
  }
  return false;
}

// What says that there was no memory for a call, as MEMORY_WORDS in failures.py.
constexpr const char* kMemoryWords[] = {"out of memory", "can't allocate memory",
                                        "not enough memory", "MemoryError"};

inline bool is_out_of_memory(const std::string& what) {
  return std::any_of(std::begin(kMemoryWords), std::end(kMemoryWords),
                     [&](const char* words) { return what.find(words) != std::string::npos; });
}

struct Failure {
  std::exception_ptr error;
  std::string what;
  int32_t caller;
  int32_t input;
  bool warming_up;
};

// The distinct failures of a run, in the order in which they were first seen.
class Failures {
 public:
  struct Recorded {
    int32_t number;  // among the distinct ones
    bool fatal;      // every further call would fail as well
    bool out_of_memory;
  };

  // Remember the exception being handled.
  Recorded record(int32_t caller, int32_t input, bool warming_up) {
    const auto error = std::current_exception();
    std::string what = "unknown C++ exception";
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      what = e.what();
    } catch (...) {
    }
    const bool fatal = is_fatal(what), out_of_memory = is_out_of_memory(what);
    std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < found_.size(); ++i) {
      if (found_[i].what == what || i + 1 == kDistinctErrors) {
        return {static_cast<int32_t>(i), fatal, out_of_memory};
      }
    }
    found_.push_back({error, what, caller, input, warming_up});
    return {static_cast<int32_t>(found_.size() - 1), fatal, out_of_memory};
  }

  std::vector<Failure> all() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return found_;
  }

  std::exception_ptr error(size_t number) const {
    std::lock_guard<std::mutex> lock(mutex_);
    return found_.at(number).error;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Failure> found_;
};

}  // namespace inferload
