#include "stage/decoder_config.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/device/error.h"
#include "stage/weight_groups.h"

namespace sluice::stage {

namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw InputError(fmt::format("{}: {}; no such model can run", where, what));
}

// Elements of all tensors; false: more than can be counted.
bool count(const DecoderConfig& model, std::int64_t& total) {
  const auto add = [&total](const offload::GroupSpec& spec, std::int64_t times) {
    for (const offload::WeightSpec& tensor : spec.tensors) {
      std::int64_t elements = 0;
      if (__builtin_mul_overflow(tensor.rows, tensor.columns, &elements) ||
          __builtin_mul_overflow(elements, times, &elements) ||
          __builtin_add_overflow(total, elements, &total)) {
        return false;
      }
    }
    return true;
  };
  return add(embedding_group(model), 1) && add(layer_group(model, 0), model.layers) &&
         add(head_group(model), 1);
}

}  // namespace

void DecoderConfig::validate(const std::string& where) const {
  const std::pair<const char*, std::int32_t> sizes[] = {{"layers", layers},
                                                        {"hidden states", hidden},
                                                        {"vocabulary", vocabulary},
                                                        {"positions", max_positions},
                                                        {"embedding", embedding.width},
                                                        {"query heads", attention.query_heads},
                                                        {"key and value heads", attention.kv_heads},
                                                        {"attention heads", attention.head_width},
                                                        {"MLP", mlp.width}};
  for (const auto& [what, value] : sizes) {
    if (value < 1)
      refuse(where, fmt::format("the size of its {} is {}, not 1 or more", what, value));
  }
  if (attention.query_heads % attention.kv_heads != 0) {
    refuse(where, fmt::format("{} query heads do not share {} key and value heads evenly",
                              attention.query_heads, attention.kv_heads));
  }
  if (max_positions > INT32_MAX - positions.offset) {
    refuse(where, fmt::format("{} positions are too many", max_positions));
  }
  const std::int64_t query_width = std::int64_t{attention.query_heads} * attention.head_width;
  if (query_width > INT32_MAX) {
    refuse(where, fmt::format("{} query heads of {} are too wide", attention.query_heads,
                              attention.head_width));
  }
  for (const auto& [what, id] : {std::pair{"bos", bos}, {"eos", eos}, {"pad", pad}}) {
    if (id < 0 || id >= vocabulary) {
      refuse(where, fmt::format("its {} token is {}, no id below the vocabulary's {}", what, id,
                                vocabulary));
    }
  }
  std::int64_t elements = 0;
  if (!count(*this, elements) || elements > INT64_MAX / 8) {  // in bytes, with room to add up
    refuse(where, fmt::format("{} layers of hidden states of {} and an MLP of {} have more bytes "
                              "than can be counted",
                              layers, hidden, mlp.width));
  }
}

}  // namespace sluice::stage
