#include "stage/decoder_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "kernels/device/error.h"
#include "stage/weight_groups.h"

namespace sluice::stage {

namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw InputError(fmt::format("{}: {}; no such model can run", where, what));
}

/// The first layer but layer 0 that has experts, or that has none; past the last: there is none.
std::int32_t first_behind(const DecoderConfig& model, bool experts) {
  if (model.mixture.layers.empty()) {  // all are alike
    return experts == (model.mixture.experts > 0) ? 1 : model.layers;
  }
  std::int32_t layer = 1;
  while (layer < model.layers && model.has_experts(layer) != experts) ++layer;
  return layer;
}

// At least the elements of all tensors; false: more than can be counted.
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
  if (!add(embedding_group(model), 1) || !add(layer_group(model, 0), 1)) return false;
  // Of the layers behind the first, those with experts are alike in size, and those without.
  for (const bool experts : {false, true}) {
    const std::int32_t alike = first_behind(model, experts);
    if (alike < model.layers && !add(layer_group(model, alike), model.layers - 1)) return false;
  }
  return add(head_group(model), 1);
}

void check_rotary(const DecoderConfig& model, const std::string& where) {
  const PositionTraits& positions = model.positions;
  if (positions.rotary.empty()) refuse(where, "its rotary positions have no frequencies");
  for (const RotaryTraits& rotary : positions.rotary) {
    const auto half = static_cast<std::size_t>(rotary.width / 2);
    if (rotary.width < 2 || rotary.width % 2 != 0 || rotary.width > model.attention.head_width) {
      refuse(where, fmt::format("rotary positions turn {} of the {} elements of a head",
                                rotary.width, model.attention.head_width));
    }
    if (rotary.frequencies.size() != half ||
        (!rotary.long_frequencies.empty() && rotary.long_frequencies.size() != half)) {
      refuse(where, fmt::format("{} rotary frequencies do not fit a width of {}",
                                rotary.frequencies.size(), rotary.width));
    }
    for (const std::vector<float>* list : {&rotary.frequencies, &rotary.long_frequencies}) {
      const auto is_finite = [](float value) { return std::isfinite(value); };
      if (!std::ranges::all_of(*list, is_finite)) {
        refuse(where, "its rotary positions have a frequency that is no finite number");
      }
    }
    // A position says which list it turns by, and it goes to all layers.
    if (rotary.long_frequencies.empty() != positions.rotary.front().long_frequencies.empty() ||
        rotary.long_after != positions.rotary.front().long_after) {
      refuse(where, "some of its layers have long rotary frequencies and some have not");
    }
  }
  for (const std::int32_t kind : positions.rotary_of_layer) {
    if (kind < -1 || kind >= static_cast<std::int32_t>(positions.rotary.size())) {
      refuse(where, fmt::format("a layer has rotary positions of kind {}", kind));
    }
  }
}

void check_mixture(const DecoderConfig& model, const std::string& where) {
  const MixtureTraits& mixture = model.mixture;
  const kernels::RouterRule& router = mixture.router;
  if (mixture.experts == 0) return;
  if (mixture.experts < 1 || mixture.experts > kernels::kMostExperts || mixture.width < 1 ||
      mixture.shared_width < 0 ||
      std::int64_t{mixture.experts} * model.layers > kMostExpertsOfModel) {
    refuse(where, fmt::format("{} experts of {} in each of {} layers are none or too many",
                              mixture.experts, mixture.width, model.layers));
  }
  const bool grouped = router.groups >= 1 && router.groups <= kernels::kMostExpertGroups &&
                       mixture.experts % router.groups == 0 && router.kept_groups >= 1 &&
                       router.kept_groups <= router.groups;
  if (!grouped) {
    refuse(where, fmt::format("{} experts cannot be chosen from {} of {} equal groups",
                              mixture.experts, router.kept_groups, router.groups));
  }
  const std::int32_t most = mixture.experts / router.groups * router.kept_groups;
  if (router.chosen < 1 || router.chosen > std::min(most, kernels::kMostChosenExperts)) {
    refuse(where, fmt::format("a row goes to {} of {} experts", router.chosen, most));
  }
  if (!mixture.layers.empty() && mixture.layers.size() != static_cast<std::size_t>(model.layers)) {
    refuse(where, fmt::format("a list says which of {} layers have experts, but there are {}",
                              mixture.layers.size(), model.layers));
  }
  if (model.residual != Residual::sequential || model.norm.place != NormPlace::before ||
      !model.mlp.gated) {
    refuse(where, "its experts stand beside attention, have norms behind them or are not gated");
  }
}

/// A list that is there has a value for every layer.
void check_lists(const DecoderConfig& model, const std::string& where) {
  const auto layers = static_cast<std::size_t>(model.layers);
  const std::vector<std::int32_t>& windows = model.attention.windows;
  const std::vector<std::int32_t>& kinds = model.positions.rotary_of_layer;
  for (const std::vector<std::int32_t>* list : {&windows, &kinds}) {
    if (!list->empty() && list->size() != layers) {
      refuse(where, fmt::format("{} values stand for its {} layers", list->size(), layers));
    }
  }
  for (const std::int32_t window : windows) {
    if (window < 0) refuse(where, fmt::format("a layer's window is {} tokens", window));
  }
}

}  // namespace

const RotaryTraits* PositionTraits::rotary_of(std::int32_t layer) const {
  if (kind != PositionKind::rotary) return nullptr;
  if (rotary_of_layer.empty()) return rotary.data();
  const std::int32_t which = rotary_of_layer[static_cast<std::size_t>(layer)];
  return which < 0 ? nullptr : &rotary[static_cast<std::size_t>(which)];
}

bool PositionTraits::turns_long(std::int32_t total) const { return total > long_after(); }

std::int32_t PositionTraits::long_after() const {
  return !rotary.empty() && !rotary.front().long_frequencies.empty()
             ? rotary.front().long_after
             : std::numeric_limits<std::int32_t>::max();
}

std::int32_t DecoderConfig::widest_mlp() const {
  if (mixture.experts == 0) return mlp.width;
  const std::int32_t widest = std::max(mixture.width, mixture.shared_width);
  const bool all = mixture.layers.empty();
  return all ? widest : std::max(widest, mlp.width);
}

kernels::AttentionRule DecoderConfig::attention_rule(std::int32_t layer) const {
  kernels::AttentionRule rule;
  rule.scale = attention.scale;
  if (attention.scale_by_layer) rule.scale /= static_cast<float>(layer + 1);
  rule.soft_cap = attention.soft_cap;
  rule.window = attention.window_of(layer);
  if (positions.kind == PositionKind::alibi) rule.alibi = positions.alibi;
  return rule;
}

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
    const bool is_none = id == -1 && what != std::string_view("eos");
    if (!is_none && (id < 0 || id >= vocabulary)) {
      refuse(where, fmt::format("its {} token is {}, no id below the vocabulary's {}", what, id,
                                vocabulary));
    }
  }
  if (positions.kind == PositionKind::rotary) check_rotary(*this, where);
  check_mixture(*this, where);
  check_lists(*this, where);
  if (embedding.zero_filled && embedding.width > hidden) {
    refuse(where, fmt::format("an embedding of {} cannot be filled up to hidden states of {}",
                              embedding.width, hidden));
  }
  std::int64_t elements = 0;
  if (!count(*this, elements) || elements > INT64_MAX / 8) {  // in bytes, with room to add up
    refuse(where, fmt::format("{} layers of hidden states of {} and an MLP of {} have more bytes "
                              "than can be counted",
                              layers, hidden, mlp.width));
  }
  if (layers > kMostLayers) refuse(where, fmt::format("{} layers are too many", layers));
}

}  // namespace sluice::stage
