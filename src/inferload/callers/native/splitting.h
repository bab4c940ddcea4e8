// What a model answers to a batch, taken apart into what each request of it gets.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/as_strided_native.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace inferload {

inline bool is_batch(const at::Tensor& tensor, int64_t size) {
  return tensor.dim() > 0 && tensor.size(0) == size;
}

// Which part of an output belongs to a request: so many items of a batch of that size.
struct Share {
  int64_t size, begin, count;
  bool by_entry;  // they are entries of a list
};

// Views of a batch. Without gradients they are made as split_with_sizes makes them, less what it
// asks the dispatcher for each: half of what it takes.
inline std::vector<at::Tensor> split(const at::Tensor& batch, const std::vector<int64_t>& counts) {
  if (batch.requires_grad() || batch.layout() != at::kStrided || batch.is_quantized() ||
      batch.unsafeGetTensorImpl()->is_python_dispatch()) {
    return batch.split_with_sizes(counts);
  }
  std::vector<at::Tensor> found;
  found.reserve(counts.size());
  at::DimVector sizes(batch.sizes());
  int64_t offset = batch.storage_offset();
  for (const int64_t count : counts) {
    sizes[0] = count;
    found.push_back(at::native::as_strided_tensorimpl(batch, sizes, batch.strides(), offset));
    offset += count * batch.stride(0);
  }
  return found;
}

// Views of every tensor that has the size of the batch in dimension 0, so many items each.
class Pieces {
 public:
  // Throws where there are tensors, and none of them has that size.
  void take_apart(const std::vector<at::Tensor>& outputs, const std::vector<int64_t>& counts,
                  int64_t size) {
    pieces_.clear();
    bool any = false;
    for (const auto& output : outputs) {
      any = any || output.dim() > 0 || size > 1;
      if (is_batch(output, size)) {
        pieces_.push_back(split(output, counts));
      }
    }
    if (any && pieces_.empty()) {
      throw std::runtime_error(another_number(outputs, size));
    }
  }
  void clear() { pieces_.clear(); }

 private:
  static std::string another_number(const std::vector<at::Tensor>& outputs, int64_t size) {
    std::ostringstream text;
    text << "the model answered a batch of " << size << " items with ";
    if (outputs.front().dim() > 0) {
      text << "a tensor of " << outputs.front().sizes();
    } else {
      text << "one number";
    }
    text << ", and none of its outputs has " << size
         << " in dimension 0: it cannot be taken apart into answers";
    return text.str();
  }

  std::vector<std::vector<at::Tensor>> pieces_;
};

// The entries of a list or tuple; throws where there are not as many as items.
inline void check_entries(size_t entries, int64_t size) {
  if (entries != static_cast<size_t>(size)) {
    std::ostringstream text;
    text << "the model answered a batch of " << size << " items with " << entries
         << " entries: it cannot be taken apart into answers";
    throw std::runtime_error(text.str());
  }
}
// Of flat outputs, of which every entry has as many as any other.
inline size_t entries_among(size_t outputs, int64_t size) {
  return outputs > 0 && outputs % size == 0 ? size : outputs;
}
inline size_t entries_of(const c10::IValue& value) {
  return value.isTuple()  ? value.toTupleRef().elements().size()
         : value.isList() ? value.toListRef().size()
                          : 0;
}

// A copy of what one request gets of an output: some items of every tensor that is a batch.
inline c10::IValue copy_of_piece(const c10::IValue& value, const Share& share) {
  const auto [size, begin, count, by_entry] = share;
  if (by_entry && (value.isTuple() || value.isList())) {
    std::vector<c10::IValue> parts;
    for (int64_t entry = begin; entry < begin + count; ++entry) {
      parts.push_back(value.isTuple() ? value.toTupleRef().elements()[entry].deepcopy()
                                      : value.toListRef()[entry].deepcopy());
    }
    return c10::ivalue::Tuple::create(std::move(parts));
  }
  if (value.isTensor()) {
    const auto& tensor = value.toTensor();
    return is_batch(tensor, size) ? tensor.narrow(0, begin, count).clone() : tensor.clone();
  }
  if (value.isTuple()) {
    std::vector<c10::IValue> parts;
    for (const auto& one : value.toTupleRef().elements()) {
      parts.push_back(copy_of_piece(one, share));
    }
    return c10::ivalue::Tuple::create(std::move(parts));
  }
  if (value.isList()) {
    const auto list = value.toList();
    auto parts = c10::impl::GenericList(list.elementType());
    for (const c10::IValue& one : value.toListRef()) {
      parts.push_back(copy_of_piece(one, share));
    }
    return parts;
  }
  if (value.isGenericDict()) {
    const auto dict = value.toGenericDict();
    auto parts = c10::impl::GenericDict(dict.keyType(), dict.valueType());
    for (const auto& one : dict) {
      parts.insert(one.key(), copy_of_piece(one.value(), share));
    }
    return parts;
  }
  return value.deepcopy();
}

}  // namespace inferload
