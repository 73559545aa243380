// Tensors as torch.save would write them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device/dtype.h"
#include "tests/support/torch_archive.h"

namespace sluice::fuzz {

struct SavedTensor {
  std::string name;
  DType dtype = DType::f32;  // f32, f16 or bf16
  std::vector<std::int64_t> shape;
  std::uint64_t elements = 0;
};

/// Each in a storage of its own.
inline std::string saved_again(const std::vector<SavedTensor>& tensors) {
  std::vector<std::pair<std::string, std::string>> items;
  std::vector<support::ZipPart> parts = {{"again/version", "3\n"}};
  for (const SavedTensor& tensor : tensors) {
    support::TensorText text;
    text.type = tensor.dtype == DType::f32   ? "FloatStorage"
                : tensor.dtype == DType::f16 ? "HalfStorage"
                                             : "BFloat16Storage";
    text.key = std::to_string(items.size());
    text.elements = static_cast<std::int64_t>(tensor.elements);
    text.shape = text.strides = tensor.shape;
    std::int64_t stride = 1;
    for (std::size_t i = tensor.shape.size(); tensor.elements > 0 && i-- > 0;) {
      text.strides[i] = stride;
      stride *= tensor.shape[i];
    }
    items.emplace_back(tensor.name, text.pickled());
    parts.push_back(
        {"again/data/" + text.key, std::string(tensor.elements * size_of(tensor.dtype), 'w')});
  }
  parts.push_back({"again/data.pkl", support::pickled_dict(items)});
  return support::zip_of(parts);
}

}  // namespace sluice::fuzz
