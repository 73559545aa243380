// What a row of logits is wanted for, in the words of kernels::Ops::sample, and its answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "offload/kv/kv_cache.h"
#include "stage/grammar_rows.h"
#include "stage/pass.h"
#include "stage/request.h"
#include "stage/token_edits.h"

namespace sluice::stage {

/// A row of logits and what it is wanted for.
struct LogitRow {
  std::int32_t row = 0;            // in Pass::rows
  std::int32_t prompt_index = -1;  // of the prompt token to be scored; -1: sample
  std::int32_t token = -1;  // the prompt token; of a sample the guess that it may equal, or -1
  std::int32_t ahead = 0;   // of a sample: the row's guesses that come behind it
  bool is_feature = false;  // its hidden state is wanted, of this prompt_index, no logits
};

/// The tokens of prefixes (KvCache::keep()), which rows that start behind them do not bring.
class PrefixTokens {
 public:
  /// Of numbers below `prefixes`; nothing is allocated afterwards.
  explicit PrefixTokens(std::int32_t prefixes = 0);
  static constexpr std::uint64_t kBytesPerPage =
      (static_cast<std::uint64_t>(offload::KvShape{}.page_tokens) + 1) * sizeof(std::int32_t);

  /// A page of these tokens behind prefix `parent` (-1: the first) is the end of prefix `prefix`.
  void keep(std::int32_t prefix, std::int32_t parent, const std::int32_t* tokens);
  /// Writes the tokens of a prefix of `pages` pages. Throws CommError unless it has so many.
  void read(std::int32_t prefix, std::int32_t pages, std::int32_t* tokens) const;
  /// Writes the first `count` tokens of its last page.
  void read_page(std::int32_t prefix, std::int32_t count, std::int32_t* tokens) const;

 private:
  void check(std::int32_t prefix) const;
  std::size_t first_of(std::int32_t prefix) const {
    return static_cast<std::size_t>(prefix) *
           static_cast<std::size_t>(offload::KvShape{}.page_tokens);
  }

  std::vector<std::int32_t> parents_;  // by prefix
  std::vector<std::int32_t> tokens_;   // [prefixes, page_tokens]
};

/// What sampling looks back at, by slot: the tokens that went through, and the rules of requests.
class Histories {
 public:
  /// Over `memory` [slots, tokens_per_slot] and `rules` [slots, words_per_slot], which must outlive
  /// it. `prefixes`: below which sequences' prefixes are numbered.
  Histories(std::int32_t* memory, std::int32_t slots, std::int32_t tokens_per_slot,
            std::int32_t* rules = nullptr, std::int32_t words_per_slot = 0,
            std::int32_t prefixes = 0);

  /// The tokens of a pass, which must follow on those before, and the rules of sequences that
  /// start: these take their slots over. Where a row begins before the last one's end, the guesses
  /// in between were wrong.
  void take(const Pass& pass);
  /// Without the last `ahead` tokens.
  SequenceSoFar so_far(std::int32_t slot, std::int32_t ahead = 0) const;
  std::span<const std::int32_t> of(std::int32_t slot) const {
    return {begin_of(slot), static_cast<std::size_t>(counts_[static_cast<std::size_t>(slot)])};
  }

 private:
  void start(const PassRow& row, std::span<const std::int32_t> rules);
  void keep(const PassRow& row, std::span<const std::int32_t> prefixes);
  std::int32_t* begin_of(std::int32_t slot) const {
    return memory_ + std::int64_t{slot} * tokens_per_slot_;
  }
  std::int32_t* rules_of(std::int32_t slot) const {
    return rules_ + std::int64_t{slot} * words_per_slot_;
  }

  std::int32_t* memory_;
  std::int32_t tokens_per_slot_;
  std::int32_t* rules_;
  std::int32_t words_per_slot_;
  std::vector<std::int32_t> counts_;      // by slot
  std::vector<std::int32_t> ends_;        // by slot: where its next tokens begin
  std::vector<std::int32_t> rule_words_;  // by slot
  PrefixTokens prefixes_;
  std::vector<std::int32_t> last_;  // by slot: the longest prefix that its pages are
};

/// Position of a token that a row samples, counted from its prompt's start.
inline std::int64_t sampled_position(const PassRow& row, std::int32_t ahead) {
  return std::int64_t{row.position} + row.new_tokens - ahead;
}

/// Memory for what rows refer to.
struct SampleRoom {
  std::span<kernels::TokenEdit> edits;  // TokenEdits::most() for each row
  std::span<std::uint32_t> masks;  // a bit of each token for each row, where rows have grammars
};
/// How much of it is used.
struct SampleUse {
  std::int32_t edits = 0;
  std::int32_t mask_words = 0;
};

/// Fills rows [wanted.size()], and `room` with what they refer to. `histories` and `grammars` have
/// taken the pass.
SampleUse fill_sample_rows(const Pass& pass, std::span<const LogitRow> wanted,
                           const Histories& histories, GrammarRows& grammars, TokenEdits& edits,
                           kernels::SampleRow* rows, const SampleRoom& room);

/// `top` [kMaxLogprobs] takes the candidates, and the result points to them.
TokenResult result_of(const kernels::SampledRow& row, std::span<Candidate> top);

}  // namespace sluice::stage
