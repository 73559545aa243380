#include "offload/kv/kv_checks.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"

namespace sluice::offload {

void throw_bug(const std::string& what) {
  throw Error(ExitStatus::failure, "KV cache: " + what + " (a bug of sluice)");
}

void KvChecks::sequence(const KvSequence& sequence, std::int32_t length) const {
  const std::int32_t most = std::min(layout_.most_tokens(sequence), layout_.shape.tokens_per_slot);
  const std::int64_t history = std::int64_t{sequence.context} - sequence.new_tokens;
  const bool follows = history <= length || sequence.prefix >= 0 || sequence.copies();
  if (sequence.new_tokens < 1 || sequence.context > most || !follows || history < 0) {
    throw_bug(fmt::format("slot {} holds {} tokens of at most {}; {} new ones cannot make it {}",
                          sequence.slot, length, most, sequence.new_tokens, sequence.context));
  }
}

void KvChecks::sequences(std::span<const KvSequence> sequences,
                         std::span<const std::int32_t> lengths) {
  const KvShape& shape = layout_.shape;
  if (sequences.size() > static_cast<std::size_t>(shape.gpu_batch_size)) {
    throw_bug(fmt::format("a GPU batch of {} sequences was begun; at most {} were planned",
                          sequences.size(), shape.gpu_batch_size));
  }
  std::int64_t tokens = 0;
  for (const KvSequence& one : sequences) {
    if (one.slot < 0 || one.slot >= shape.slots) {
      throw_bug(fmt::format("slot {} does not exist; there are {}", one.slot, shape.slots));
    }
    sequence(one, lengths[static_cast<std::size_t>(one.slot)]);
    const std::int64_t end = std::int64_t{one.first_row} + one.new_tokens;
    tokens += one.new_tokens;
    if (one.first_row < 0 || std::max(end, tokens) > shape.tokens_per_gpu_batch) {
      throw_bug(fmt::format("slot {} has rows {} to {} of a GPU batch of at most {} tokens",
                            one.slot, one.first_row, end - 1, shape.tokens_per_gpu_batch));
    }
  }
  std::int32_t twice = -1;
  for (const KvSequence& one : sequences) {
    char& taken = taken_[static_cast<std::size_t>(one.slot)];
    if (taken != 0) twice = one.slot;
    taken = 1;
  }
  for (const KvSequence& one : sequences) taken_[static_cast<std::size_t>(one.slot)] = 0;
  if (twice >= 0) throw_bug(fmt::format("slot {} is twice in one GPU batch", twice));
}

void KvChecks::rows(const KvStep& step, const char* name, TensorView view,
                    std::int32_t heads) const {
  const KvShape& shape = layout_.shape;
  const std::int64_t width = std::int64_t{heads} * shape.head_dim;
  if (view.dtype != shape.compute_dtype || view.columns != width || view.rows < step.rows) {
    throw_bug(fmt::format("{} is {} [{}, {}]; it must be {}, at least {} rows of {} heads x {}",
                          name, name_of(view.dtype), view.rows, view.columns,
                          name_of(shape.compute_dtype), step.rows, heads, shape.head_dim));
  }
}

void KvChecks::rule(std::int32_t layer, const kernels::AttentionRule& rule) const {
  const std::int32_t window = layout_.reaches[layout_.reach_of(layer)].window;
  if (window > 0 && (rule.window == 0 || rule.window > window)) {
    throw_bug(fmt::format("layer {} keeps a window of {} tokens; it cannot attend one of {}", layer,
                          window, rule.window));
  }
}

}  // namespace sluice::offload
