// Stamps of calls by the processor's counter, where it is as good as the monotonic clock.

#pragma once

#include <c10/util/ApproximateClock.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>
#include <tuple>

#include "clock.h"

namespace inferload {

inline uint64_t ticks_now() { return static_cast<uint64_t>(c10::getApproximateTime()); }

// Both clocks at one moment. Of several looks it is the one that was disturbed least.
struct Moment {
  int64_t time_ns;
  uint64_t ticks;
  uint64_t within_ticks;  // between them

  static Moment now(int looks) {
    Moment found{0, 0, std::numeric_limits<uint64_t>::max()};
    for (int look = 0; look < looks; ++look) {
      const uint64_t before = ticks_now();
      const int64_t time_ns = now_ns();
      const uint64_t within = ticks_now() - before;
      if (within < found.within_ticks) {
        found = {time_ns, before + within / 2, within};
      }
    }
    return found;
  }
};

constexpr int kLooks = 16;
// The counter's pace is told by two moments so far apart, or more: each is known to some 10 ns.
constexpr int64_t kApartNs = 20'000'000;
// A caller whose stamps would be off by more, and by more than 10 us in a second since it last
// looked (whoever keeps the clock's time may slow it down or speed it up), goes by the clock.
constexpr int64_t kMostOffNs = 1'000;
constexpr int64_t kMostOffPart = 100'000;
// A caller that had no good look at both clocks for so long takes the best that it can have.
constexpr int64_t kOverdueNs = 100'000'000;

// Whether the kernel itself goes by the counter: it has watched that all cores have the same, and
// that it runs at one pace whatever they do.
inline bool counter_is_steady() {
#if defined(C10_RDTSC) || defined(C10_ARMTSC)
  std::ifstream file("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  std::string name;
  return file >> name && (name == "tsc" || name == "arch_sys_counter");
#else
  return false;
#endif
}

// When the library was loaded: long before callers start.
inline const Moment kLoaded = Moment::now(kLooks);

// Nanoseconds a tick, in units of 2^-32; 0: the clock is to be read instead.
inline int64_t counter_pace() {
  if (!counter_is_steady()) {
    return 0;
  }
  Moment now = Moment::now(kLooks);
  if (now.time_ns - kLoaded.time_ns < kApartNs) {
    sleep_until(kLoaded.time_ns + kApartNs);
    now = Moment::now(kLooks);
  }
  if (now.ticks <= kLoaded.ticks) {
    return 0;
  }
  const auto ns = static_cast<__int128>(now.time_ns - kLoaded.time_ns) << 32;
  return static_cast<int64_t>(ns / static_cast<int64_t>(now.ticks - kLoaded.ticks));
}

// The clock of one caller: monotonic nanoseconds, told by the counter, and put right by the clock
// each time that the caller claims rows.
class Counter {
 public:
  explicit Counter(int64_t pace) : pace_(pace), counts_(pace != 0) {}

  void begin() { at_ = Moment::now(kLooks); }

  int64_t now() const { return counts_ ? time_of(ticks_now()) : now_ns(); }

  // Go by the clock from here on, never back before a stamp that was given.
  void put_right(int64_t last_ns) {
    if (!counts_) {
      return;
    }
    Moment moment = Moment::now(1);
    if (moment.within_ticks > 4 * at_.within_ticks) {
      // the thread was interrupted between the two, or its core has become slower
      if (moment.time_ns - at_.time_ns < kOverdueNs) {
        return;
      }
      moment = Moment::now(kLooks);
      at_.within_ticks = moment.within_ticks;
    }
    const int64_t off_ns = std::abs(time_of(moment.ticks) - moment.time_ns);
    const int64_t most_ns = kMostOffNs + (moment.time_ns - at_.time_ns) / kMostOffPart;
    most_off_ns_ = std::max(most_off_ns_, off_ns);
    counts_ = off_ns <= most_ns;
    at_.time_ns = std::max(moment.time_ns, last_ns);
    at_.ticks = moment.ticks;
  }

  // Whether it does so still.
  bool counts() const { return counts_; }
  // By how much it was off at most when it was put right; -1: it was the clock from the start.
  int64_t most_off_ns() const { return pace_ == 0 ? -1 : most_off_ns_; }

 private:
  // With a sign: a processor may read its counter before what stands before it in the program.
  int64_t time_of(uint64_t ticks) const {
    const auto since = static_cast<__int128>(static_cast<int64_t>(ticks - at_.ticks)) * pace_;
    return at_.time_ns + static_cast<int64_t>(since >> 32);
  }

  const int64_t pace_;
  bool counts_;
  Moment at_{};
  int64_t most_off_ns_ = 0;
};

// Nanoseconds a tick, 0 where the clock is read, whether a caller would go by the counter after so
// long, and how far off it would be, at a pace that is wrong by a part.
inline std::tuple<double, bool, int64_t> try_counter(int64_t for_ns, double wrong_by) {
  const int64_t pace = counter_pace();
  Counter counter(pace + static_cast<int64_t>(static_cast<double>(pace) * wrong_by));
  counter.begin();
  sleep_until(now_ns() + for_ns);
  for (int look = 0; look < kLooks; ++look) {  // the first ones after a sleep take long
    counter.put_right(0);
  }
  return {static_cast<double>(pace) / 0x1p32, counter.counts(), counter.most_off_ns()};
}

}  // namespace inferload
