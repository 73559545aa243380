#include "stage/sample_rows.h"

#include <algorithm>

#include "kernels/device/error.h"
#include "stage/sampler.h"

namespace sluice::stage {

static_assert(kernels::kMostCandidates == kMaxLogprobs);

Histories::Histories(std::int32_t* memory, std::int32_t slots, std::int32_t tokens_per_slot)
    : memory_(memory),
      tokens_per_slot_(tokens_per_slot),
      counts_(static_cast<std::size_t>(slots), 0) {}

void Histories::take(const Pass& pass) {
  const std::int32_t* next = pass.tokens.data();
  for (const PassRow& row : pass.rows) {
    std::int32_t& count = counts_[static_cast<std::size_t>(row.slot)];
    if (row.position == 0) count = 0;
    if (row.new_tokens > tokens_per_slot_ - count) {
      throw CommError("a sequence is longer than the job's longest; this is a bug in sluice");
    }
    std::copy_n(next, row.new_tokens, begin_of(row.slot) + count);
    count += row.new_tokens;
    next += row.new_tokens;
  }
}

std::int32_t fill_sample_rows(const Pass& pass, std::span<const LogitRow> wanted,
                              const Histories& histories, kernels::SampleRow* rows,
                              std::int32_t* history) {
  std::int32_t used = 0;
  for (const LogitRow& one : wanted) {
    const PassRow& from = pass.rows[static_cast<std::size_t>(one.row)];
    kernels::SampleRow& row = *rows++;
    row = {};
    if (one.prompt_index >= 0) {
      row.token = one.token;
      row.logprobs = std::max(from.sampling.logprobs, 0);
      continue;
    }
    row.uniform = uniform_of(from.sampling.seed, sampled_position(from));
    row.temperature = from.sampling.temperature;
    row.top_p = from.sampling.top_p;
    row.repetition_penalty = from.sampling.repetition_penalty;
    row.top_k = from.sampling.top_k;
    row.logprobs = from.sampling.logprobs;
    if (row.repetition_penalty == 1.0F) continue;
    const std::span<const std::int32_t> seen = histories.of(from.slot);
    row.history_first = used;
    row.history_count = static_cast<std::int32_t>(seen.size());
    std::copy(seen.begin(), seen.end(), history + used);
    used += row.history_count;
  }
  return used;
}

TokenResult result_of(const kernels::SampledRow& row, std::span<Candidate> top) {
  for (std::int32_t i = 0; i < row.top_count; ++i) {
    top[static_cast<std::size_t>(i)] = {row.top_token[i], row.top_logprob[i]};
  }
  return {row.token, row.logprob, top.first(static_cast<std::size_t>(row.top_count))};
}

}  // namespace sluice::stage
