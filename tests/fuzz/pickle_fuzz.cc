// A pickle of any bytes: refused, or a list of tensors with sizes that can be, which are the same
// when they are pickled again. Nothing is executed and memory is bounded (pickle_reader.h).
#include <string>
#include <utility>
#include <vector>

#include "offload/checkpoint/pickle_reader.h"
#include "tests/fuzz/refusal.h"
#include "tests/support/torch_archive.h"

namespace {

namespace fuzz = sluice::fuzz;
namespace support = sluice::support;
using sluice::offload::PickledTensor;
using Tensors = std::vector<PickledTensor>;

Tensors pickled_again(const Tensors& tensors) {
  std::vector<std::pair<std::string, std::string>> items;
  for (const PickledTensor& tensor : tensors) {
    support::TensorText text;
    text.type = tensor.storage.type;
    text.key = tensor.storage.key;
    text.elements = static_cast<std::int64_t>(tensor.storage.elements);
    text.offset = static_cast<std::int64_t>(tensor.offset);
    text.shape = tensor.shape;
    text.strides = tensor.strides;
    items.emplace_back(tensor.name, text.pickled());
  }
  return sluice::offload::read_state_dict(support::pickled_dict(items), "again");
}

void check_alike(const PickledTensor& one, const PickledTensor& other) {
  fuzz::require(one.name == other.name && one.storage.type == other.storage.type &&
                    one.storage.dtype == other.storage.dtype &&
                    one.storage.key == other.storage.key &&
                    one.storage.elements == other.storage.elements && one.offset == other.offset &&
                    one.shape == other.shape && one.strides == other.strides,
                "a tensor is another when pickled again");
  fuzz::require(one.shape.size() == one.strides.size(), "a tensor has too many strides");
  for (const auto* sizes : {&one.shape, &one.strides}) {
    for (const std::int64_t size : *sizes) fuzz::require(size >= 0, "a tensor has a negative size");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view pickle(reinterpret_cast<const char*>(data), size);
  Tensors tensors;
  const bool read = fuzz::accepts(sluice::ExitStatus::bad_input, [&] {
    tensors = sluice::offload::read_state_dict(pickle, "fuzz");
  });
  if (!read) return 0;
  const Tensors again = pickled_again(tensors);
  fuzz::require(tensors.size() == again.size(), "a tensor was lost when pickled again");
  for (std::size_t i = 0; i < tensors.size(); ++i) check_alike(tensors[i], again[i]);
  return 0;
}
