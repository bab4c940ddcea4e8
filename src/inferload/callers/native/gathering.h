// Putting the inputs of a batch together in the tensors of a caller, as Gathering in gathering.py.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "forming.h"

namespace inferload {

// Inputs that join each other, and the shapes in which the model is called with them.
struct GatherGroup {
  std::vector<int32_t> joins;  // [one * ends + other]: the ends of a batch of both
  int64_t ends, first;
  std::vector<int64_t> sizes;    // of dimension 0, ascending
  std::vector<at::Tensor> pads;  // of each part: one value, or none
  bool by_entry;                 // the model answers a list with an entry for each item
};

// How requests are put together, by all callers of a run.
struct GatherPlan {
  std::vector<GatherGroup> groups;
  std::vector<int32_t> group_of, ends_of, items_of;  // of each input
  std::vector<int64_t> elements_of;
  std::vector<std::vector<at::Tensor>> sources;            // [input][part]
  std::vector<std::vector<std::vector<at::Tensor>>> into;  // [caller][shape][part]
  std::vector<std::vector<int32_t>> examples;              // [shape]: inputs that make it
  bool before;  // what copies to a device begins, not on it
};

class Gathering {
 public:
  Gathering(const GatherPlan& plan, size_t caller) : plan_(plan), into_(plan.into[caller]) {}

  bool before() const { return plan_.before; }

  // The members of the next batch; returns the number of the shape in which they are called.
  int32_t choose(const std::vector<Request>& requests) {
    members_.clear();
    for (const auto& request : requests) {
      members_.push_back(request.input);
    }
    return chosen();
  }
  int32_t choose_example(int32_t shape) {
    members_ = plan_.examples[shape];
    return chosen();
  }

  void gather() {
    const auto& parts = into_[shape_];
    for (size_t part = 0; part < parts.size(); ++part) {
      put(part, parts[part]);
    }
  }

  // How many items each member has, and what is left of dimension 0.
  const std::vector<int64_t>& counts() const { return counts_; }
  int64_t size() const { return group_->sizes[size_place_]; }
  bool by_entry() const { return group_->by_entry; }

  int32_t padding_ppm() const {
    int64_t own = 0, whole = 0;
    for (const int32_t member : members_) {
      own += plan_.elements_of[member];
    }
    for (const auto& part : into_[shape_]) {
      whole += part.numel();
    }
    return whole == 0
               ? 0
               : static_cast<int32_t>(
                     (1e6 * static_cast<double>(whole - own)) / static_cast<double>(whole) + 0.5);
  }

 private:
  int32_t chosen() {
    group_ = &plan_.groups[plan_.group_of[members_.front()]];
    int64_t ends = plan_.ends_of[members_.front()], items = 0;
    counts_.clear();
    for (const int32_t member : members_) {
      ends = group_->joins[ends * group_->ends + plan_.ends_of[member]];
      counts_.push_back(plan_.items_of[member]);
      items += counts_.back();
    }
    const auto& sizes = group_->sizes;
    size_place_ = std::lower_bound(sizes.begin(), sizes.end(), items) - sizes.begin();
    if (size() > items) {
      counts_.push_back(size() - items);
    }
    const auto each = static_cast<int64_t>(sizes.size());
    return shape_ = static_cast<int32_t>(group_->first + ends * each + size_place_);
  }

  const at::Tensor& source(size_t member, size_t part) const {
    return plan_.sources[members_[member]][part];
  }

  void put(size_t part, const at::Tensor& into) const {
    const auto& first = source(0, part);
    const bool on_host = into.device().is_cpu() && first.device().is_cpu();
    const bool in_order = into.is_contiguous() || group_->pads[part].numel() == 0;
    if (!on_host || !in_order) {
      put_by_torch(part, into);
      return;
    }
    char* const begin = static_cast<char*>(into.data_ptr());
    const int64_t item = into[0].numel() * static_cast<int64_t>(into.element_size());
    const auto& pad = group_->pads[part];
    char* to = begin;
    for (size_t member = 0; member < members_.size(); ++member) {
      const auto& from = source(member, part);
      if (from.sizes().slice(1) == into.sizes().slice(1)) {
        std::memcpy(to, from.data_ptr(), from.nbytes());
      } else {
        const auto* bytes = static_cast<const char*>(from.data_ptr());
        char* place = to;
        for (int64_t row = 0; row < from.size(0); ++row, place += item) {
          bytes = put_padded(place, into, bytes, from, 1, pad);
        }
      }
      to += from.size(0) * item;
    }
    for (char* const end = begin + into.size(0) * item; to != end; to += item) {
      std::memcpy(to, to - item, item);
    }
  }

  // Copies what stands in a dimension and those behind it, and pads the rest of it.
  static const char* put_padded(char* to, const at::Tensor& into, const char* bytes,
                                const at::Tensor& from, int64_t dim, const at::Tensor& pad) {
    const auto width = static_cast<int64_t>(into.element_size());
    const int64_t step = into.stride(dim) * width, own = from.size(dim);
    if (dim + 1 == into.dim()) {
      std::memcpy(to, bytes, own * width);
      bytes += own * width;
    } else {
      for (int64_t i = 0; i < own; ++i) {
        bytes = put_padded(to + i * step, into, bytes, from, dim + 1, pad);
      }
    }
    char* const end = to + into.size(dim) * step;
    for (char* place = to + own * step; place != end; place += width) {
      std::memcpy(place, pad.data_ptr(), width);
    }
    return bytes;
  }

  void put_by_torch(size_t part, const at::Tensor& into) const {
    const c10::InferenceMode mode;  // inputs may be inference tensors
    std::vector<at::Tensor> parts;
    int64_t items = 0;
    bool equal = true;
    for (size_t member = 0; member < members_.size(); ++member) {
      parts.push_back(source(member, part));
      items += parts.back().size(0);
      equal = equal && parts.back().sizes().slice(1) == into.sizes().slice(1);
    }
    auto own = into.narrow(0, 0, items);
    if (equal) {
      at::cat_out(own, parts, 0);
    } else {
      own.fill_(group_->pads[part].item());
      int64_t begin = 0;
      for (const auto& from : parts) {
        auto place = own.narrow(0, begin, from.size(0));
        for (int64_t dim = 1; dim < from.dim(); ++dim) {
          place = place.narrow(dim, 0, from.size(dim));
        }
        place.copy_(from, true);
        begin += from.size(0);
      }
    }
    if (items < into.size(0)) {
      auto rest = into.narrow(0, items, into.size(0) - items);
      rest.copy_(own.narrow(0, items - 1, 1).expand_as(rest), true);
    }
  }

  const GatherPlan& plan_;
  const std::vector<std::vector<at::Tensor>>& into_;
  std::vector<int32_t> members_;
  std::vector<int64_t> counts_;
  const GatherGroup* group_ = nullptr;
  int64_t size_place_ = 0;
  int32_t shape_ = 0;
};

}  // namespace inferload
