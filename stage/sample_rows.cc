#include "stage/sample_rows.h"

#include <algorithm>
#include <utility>

#include "kernels/device/error.h"
#include "stage/sampler.h"

namespace sluice::stage {

static_assert(kernels::kMostCandidates == kMaxLogprobs);

PrefixTokens::PrefixTokens(std::int32_t prefixes)
    : parents_(static_cast<std::size_t>(prefixes), -1),
      tokens_(parents_.size() * static_cast<std::size_t>(offload::KvShape{}.page_tokens)) {}

void PrefixTokens::check(std::int32_t prefix) const {
  if (prefix >= 0 && static_cast<std::size_t>(prefix) < parents_.size()) return;
  throw CommError("a sequence has a prefix that is not there; this is a bug in sluice");
}

void PrefixTokens::keep(std::int32_t prefix, std::int32_t parent, const std::int32_t* tokens) {
  check(prefix);
  parents_[static_cast<std::size_t>(prefix)] = parent;
  std::copy_n(tokens, offload::KvShape{}.page_tokens, tokens_.data() + first_of(prefix));
}

void PrefixTokens::read(std::int32_t prefix, std::int32_t pages, std::int32_t* tokens) const {
  const std::int32_t page_tokens = offload::KvShape{}.page_tokens;
  for (std::int32_t left = pages; left > 0; --left) {
    check(prefix);
    std::copy_n(tokens_.data() + first_of(prefix), page_tokens,
                tokens + std::ptrdiff_t{left - 1} * page_tokens);
    prefix = parents_[static_cast<std::size_t>(prefix)];
  }
  if (prefix >= 0)
    throw CommError("a prefix has more pages than a pass says; this is a bug in sluice");
}

void PrefixTokens::read_page(std::int32_t prefix, std::int32_t count, std::int32_t* tokens) const {
  check(prefix);
  std::copy_n(tokens_.data() + first_of(prefix), count, tokens);
}

Histories::Histories(std::int32_t* memory, std::int32_t slots, std::int32_t tokens_per_slot,
                     std::int32_t* rules, std::int32_t words_per_slot, std::int32_t prefixes)
    : memory_(memory),
      tokens_per_slot_(tokens_per_slot),
      rules_(rules),
      words_per_slot_(words_per_slot),
      counts_(static_cast<std::size_t>(slots), 0),
      ends_(static_cast<std::size_t>(slots), 0),
      rule_words_(static_cast<std::size_t>(slots), 0),
      prefixes_(prefixes),
      last_(static_cast<std::size_t>(slots), -1) {}

void Histories::take(const Pass& pass) {
  const std::int32_t* next = pass.tokens.data();
  std::span<const std::int32_t> rules(pass.rules);
  std::span<const std::int32_t> kept(pass.kept);
  for (const PassRow& row : pass.rows) {
    std::int32_t& count = counts_[static_cast<std::size_t>(row.slot)];
    if (row.starts || row.position == 0) {
      start(row, rules.first(static_cast<std::size_t>(row.rule_words)));
      rules = rules.subspan(static_cast<std::size_t>(row.rule_words));
    }
    std::int32_t& end = ends_[static_cast<std::size_t>(row.slot)];
    count -= end - row.position;
    end = row.position + row.new_tokens;
    if (count < 0 || row.new_tokens > tokens_per_slot_ - count) {
      throw CommError("a sequence is longer than the job's longest; this is a bug in sluice");
    }
    std::copy_n(next, row.new_tokens, begin_of(row.slot) + count);
    count += row.new_tokens;
    next += row.new_tokens;
    keep(row, kept.first(static_cast<std::size_t>(row.kept)));
    kept = kept.subspan(static_cast<std::size_t>(row.kept));
  }
}

void Histories::start(const PassRow& row, std::span<const std::int32_t> rules) {
  if (row.rule_words > words_per_slot_) {
    throw CommError("a sequence has more rules than the job's longest; this is a bug in sluice");
  }
  counts_[static_cast<std::size_t>(row.slot)] = row.position;
  ends_[static_cast<std::size_t>(row.slot)] = row.position;
  last_[static_cast<std::size_t>(row.slot)] = row.prefix;
  rule_words_[static_cast<std::size_t>(row.slot)] = row.rule_words;
  std::ranges::copy(rules, rules_of(row.slot));
  const std::int32_t page_tokens = offload::KvShape{}.page_tokens;
  const std::int32_t copied = row.copies() ? row.position % page_tokens : 0;
  const std::int32_t before = row.position - copied;
  if (row.prefix >= 0) prefixes_.read(row.prefix, before / page_tokens, begin_of(row.slot));
  std::int32_t* target = begin_of(row.slot) + before;
  if (row.copied_from >= 0) prefixes_.read_page(row.copied_from, copied, target);
  if (row.copied_of_slot >= 0) std::copy_n(begin_of(row.copied_of_slot) + before, copied, target);
}

void Histories::keep(const PassRow& row, std::span<const std::int32_t> prefixes) {
  const std::int32_t* tokens =
      begin_of(row.slot) + std::ptrdiff_t{row.kept_from} * offload::KvShape{}.page_tokens;
  std::int32_t& last = last_[static_cast<std::size_t>(row.slot)];
  for (const std::int32_t prefix : prefixes) {
    prefixes_.keep(prefix, std::exchange(last, prefix), tokens);
    tokens += offload::KvShape{}.page_tokens;
  }
}

SequenceSoFar Histories::so_far(std::int32_t slot, std::int32_t ahead) const {
  const std::span<const std::int32_t> tokens = of(slot);
  const auto words = static_cast<std::size_t>(rule_words_[static_cast<std::size_t>(slot)]);
  return {tokens.first(tokens.size() - static_cast<std::size_t>(ahead)),
          TokenRuleView(std::span<const std::int32_t>(rules_of(slot), words))};
}

namespace {

/// Where the device finds the edits and the mask of a row, which end what is used of the room.
void place_edits(const LogitEdits& edits, const SampleRoom& room, SampleUse& used,
                 kernels::SampleRow& row) {
  row.first_edit = used.edits;
  row.biases = static_cast<std::int32_t>(edits.biases.size());
  row.repeated = static_cast<std::int32_t>(edits.repeated.size());
  row.others = static_cast<std::int32_t>(edits.others.size());
  used.edits += row.biases + row.repeated + row.others;
  if (edits.mask.empty()) return;
  row.first_mask_word = used.mask_words;
  std::ranges::copy(edits.mask, room.masks.begin() + used.mask_words);
  used.mask_words += static_cast<std::int32_t>(edits.mask.size());
}

}  // namespace

SampleUse fill_sample_rows(const Pass& pass, std::span<const LogitRow> wanted,
                           const Histories& histories, GrammarRows& grammars, TokenEdits& edits,
                           kernels::SampleRow* rows, const SampleRoom& room) {
  SampleUse used;
  for (const LogitRow& one : wanted) {
    const PassRow& from = pass.rows[static_cast<std::size_t>(one.row)];
    const Sampling& sampling = from.sampling;
    kernels::SampleRow& row = *rows++;
    row = {};
    if (one.prompt_index >= 0) {
      row.token = one.token;
      row.logprobs = std::max(sampling.logprobs, 0);
      continue;
    }
    row.uniform = uniform_of(sampling.seed, sampled_position(from, one.ahead));
    row.temperature = sampling.temperature;
    row.top_p = sampling.top_p;
    row.min_p = sampling.min_p;
    row.repetition_penalty = sampling.repetition_penalty;
    row.top_k = sampling.top_k;
    row.logprobs = sampling.logprobs;
    row.of_beam = sampling.of_beam;
    SequenceSoFar so_far = histories.so_far(from.slot, one.ahead);
    so_far.mask = grammars.allowed(from, one.ahead, so_far.tokens);
    if (!edits_logits(sampling, so_far)) continue;
    const auto left = room.edits.subspan(static_cast<std::size_t>(used.edits));
    place_edits(edits.make(sampling, so_far, left), room, used, row);
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
