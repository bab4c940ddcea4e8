// The log that callers write: a header, then one column after another (log_file.py).

#pragma once

#include <fcntl.h>

#include <cstdint>
#include <type_traits>

namespace inferload {

constexpr int64_t kHeaderBytes = 4096;
// Rooms are whole blocks, and a caller claims no more than a block at a time.
constexpr int64_t kBlockRows = 1024;
constexpr int64_t kNoStage = -1;
// The last so many columns are optional: they have disk behind them only where they are used.
constexpr int kOptional = 14;

struct Columns {
  Columns() = default;
  Columns(char* file, int64_t room) {
    char* place = file + kHeaderBytes;
    each([&](const char*, auto*& column) {
      column = reinterpret_cast<std::remove_reference_t<decltype(column)>>(place);
      place += room * static_cast<int64_t>(sizeof(*column));
    });
  }

  // Every column and its name, in the order of the file, as COLUMNS and OPTIONAL in Python. All
  // else that needs the layout goes by this; Python compares it with its own when it loads the
  // library.
  template <class Visit>
  void each(Visit visit) {
    visit("scheduled_ns", scheduled_ns);
    visit("started_ns", started_ns);
    visit("finished_ns", finished_ns);
    visit("caller", caller);
    visit("input", input);
    visit("error", error);
    visit("issue_ns", issue_ns);
    visit("device_ns", device_ns);
    visit("copy_in_ns", copy_in_ns);
    visit("copy_out_ns", copy_out_ns);
    visit("gather_ns", gather_ns);
    visit("hold_ns", hold_ns);
    visit("late_ns", late_ns);
    visit("first_piece_ns", first_piece_ns);
    visit("last_piece_ns", last_piece_ns);
    visit("batch", batch);
    visit("batch_size", batch_size);
    visit("padding_ppm", padding_ppm);
    visit("pieces", pieces);
    visit("tokens", tokens);
  }

  // A row is read while others are written: whoever sees that a call has started finds in its row
  // what it is, and whoever sees that it has finished finds all of it. On x86 both are plain
  // stores.
  void start(int64_t place, int64_t time_ns) const {
    __atomic_store_n(&started_ns[place], time_ns, __ATOMIC_RELEASE);
  }
  void finish(int64_t place, int64_t time_ns) const {
    __atomic_store_n(&finished_ns[place], time_ns, __ATOMIC_RELEASE);
  }

  int64_t *scheduled_ns = nullptr, *started_ns = nullptr, *finished_ns = nullptr;
  int32_t *caller = nullptr, *input = nullptr, *error = nullptr;
  int64_t *issue_ns = nullptr, *device_ns = nullptr;
  int64_t *copy_in_ns = nullptr, *copy_out_ns = nullptr, *gather_ns = nullptr;
  int64_t *hold_ns = nullptr, *late_ns = nullptr;
  int64_t *first_piece_ns = nullptr, *last_piece_ns = nullptr;
  int32_t *batch = nullptr, *batch_size = nullptr, *padding_ppm = nullptr;
  int32_t *pieces = nullptr, *tokens = nullptr;
};

inline int count_columns() {
  int count = 0;
  Columns().each([&](const char*, auto*) { ++count; });
  return count;
}

// Set aside disk space for rows [from, to) of every column, and of the optional ones whose bits are
// set; errno, or 0.
inline int reserve_rows(int fd, int64_t room, int64_t from, int64_t to, uint32_t optional) {
  int place = kOptional - count_columns(), error = 0;
  int64_t offset = kHeaderBytes;
  Columns().each([&](const char*, auto* column) {
    constexpr auto width = static_cast<int64_t>(sizeof(*column));
    const bool used = place < 0 || (optional >> place & 1) != 0;
    if (error == 0 && used) {
      error = posix_fallocate(fd, offset + from * width, (to - from) * width);
    }
    offset += room * width;
    ++place;
  });
  return error;
}

}  // namespace inferload
