// What travels down the pipeline. A pass is one micro-batch going through every stage once. The
// head makes its header once; each stage forwards the header the moment it arrives, ahead of the
// hidden states. So every decision reaches every stage in the same order: the pipeline is the log.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "stage/request.h"
#include "stage/stage_config.h"

namespace sluice::stage {

/// Some new tokens of one sequence: a decode step (one, and guesses behind it), a whole prompt, or
/// a chunk of one. Guesses that turn out wrong are forgotten: the sequence's next row begins before
/// them.
struct PassRow {
  std::int32_t slot = 0;        // of the KV cache
  std::int32_t position = 0;    // of the first new token: what the cache holds already
  std::int32_t new_tokens = 0;  // >= 1
  std::int32_t drafted = 0;     // of these, the last: guesses, which follow the row's last token
  std::int32_t total = 0;       // most tokens the cache will ever hold of the sequence
  std::int32_t prefix = -1;     // it starts, and its history is this one (KvCache::keep) ...
  /// ... and behind it, where the history ends inside a page, the beginning of a page that is
  /// copied: the last one of this prefix, or that of the same place of this slot's sequence.
  std::int32_t copied_from = -1;
  std::int32_t copied_of_slot = -1;
  std::int32_t kept_from = 0;    // from this page on so many of its pages, which are full after the
  std::int32_t kept = 0;         // pass, become ends of prefixes
  std::int32_t first_token = 0;  // of the first, counted from the start of the row's GPU batch
  std::int32_t gpu_batch = 0;    // of the micro-batch; rows are sorted by it
  std::int32_t next_token = -1;  // with scores_from: the prompt token after the chunk, or -1
  std::int32_t scores_from = 0;  // as Request::scores_from; 0 of a row that is no prompt
  std::int32_t grammar = -1;     // what the answer must be, by its number; -1: anything
  std::int32_t adapter = -1;     // as Request::adapter
  std::int32_t rule_words = 0;   // of Pass::rules; 0 but in the first pass of a sequence
  bool starts = false;           // the first pass of a sequence in this slot
  bool sample = false;  // a token is wanted after the last new one, and after each before a guess
  Embed embed = Embed::none;  // as Request::embed
  bool embeds = false;        // ... and the prompt ends here: it is complete
  Sampling sampling;

  bool copies() const { return copied_from >= 0 || copied_of_slot >= 0; }
  /// The prompt tokens whose log-probabilities are wanted, from the first to before the end.
  std::int32_t first_scored() const { return std::max(scores_from, position + 1); }
  std::int32_t end_scored() const {
    const std::int32_t known = position + new_tokens + (next_token >= 0 ? 1 : 0);
    return scores_from > 0 ? std::max(known, first_scored()) : first_scored();
  }
  /// New tokens, the last ones, whose final hidden states are wanted.
  std::int32_t features() const {
    return embed == Embed::mean ? new_tokens : embed == Embed::last && embeds ? 1 : 0;
  }
};

/// What a grammar's number means from this pass on.
struct PassGrammar {
  std::int32_t number = 0;
  std::int32_t bytes = 0;  // of Pass::grammar_bytes
};

/// tokens holds the new tokens of all rows, by GPU batch, then by row. `first_token` counts from
/// the start of the row's GPU batch.
struct Pass {
  std::int64_t number = 0;
  std::int32_t micro_batch = 0;
  bool end = false;  // the job is over; no rows
  std::vector<PassRow> rows;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> batch_tokens;  // new tokens of each GPU batch, [num_gpu_batches]
  std::vector<std::int32_t> rules;    // of the rows that start, one after the other (token_rules.h)
  std::vector<PassGrammar> grammars;  // that rows of this pass are the first to have
  std::vector<std::byte> grammar_bytes;  // theirs, one after the other
  std::vector<std::int32_t> freed;    // slots, of any micro-batch, whose sequences have ended since
                                      // the pass before: their pages may go to rows of this one
  std::vector<std::int32_t> dropped;  // likewise prefixes that are kept no longer
  std::vector<std::int32_t> kept;     // numbers of the prefixes that rows make, by row

  void clear();
  /// Memory for any pass of this batching.
  void reserve(const Batching& batching, std::int32_t stages);
};

/// Prefixes are numbered below this: a prefix has a page of its own, and a pool has at most the
/// pages of the longest sequence for each slot. 0: none are shared.
std::int64_t most_prefixes(const Batching& batching, std::int32_t stages);

/// Bytes that hold any pass of this batching over so many stages.
std::size_t max_pass_bytes(const Batching& batching, std::int32_t stages);

/// Writes the pass to `buffer` and returns the part used. Pre: buffer holds max_pass_bytes.
std::span<const std::byte> encode(const Pass& pass, std::span<std::byte> buffer);
/// Reads a pass; reuses the capacity of `pass`. Throws CommError if the bytes are no pass.
void decode(std::span<const std::byte> bytes, Pass& pass);

/// What the last stage says of a pass, in the order of its rows: of each row its prompt tokens'
/// results (where asked for), then its new tokens (where one was to be sampled): one, and one more
/// for each guess that it equals, until the first that it does not equal or that failed.
struct PassResult {
  std::int32_t slot = 0;
  std::int32_t prompt_index = -1;  // >= 1: of a prompt token; -1: a new token
  std::int32_t token = -1;         // below 0: none, kernels::kNotFinite or kAllRuledOut
  float logprob = 0.0F;
  std::int32_t first_candidate = 0;  // in PassResults::candidates
  std::int32_t candidate_count = 0;
  bool failed() const { return token < 0; }
};

struct PassResults {
  std::int64_t number = 0;
  std::int32_t micro_batch = 0;
  std::vector<PassResult> entries;
  std::vector<Candidate> candidates;   // of all entries that were asked for them
  std::vector<std::int32_t> embedded;  // slots of the rows with PassRow::embeds, in their order
  std::vector<float> features;         // theirs, [embedded, Batching::features]

  /// Memory for the largest results that a pass of this batching can have.
  void reserve(const Batching& batching);
  void clear();
  void add(std::int32_t slot, std::int32_t prompt_index, const TokenResult& result);
  /// Valid as long as these results are not changed.
  TokenResult result_of(const PassResult& entry) const;
  /// Of the `index`-th of `embedded`.
  std::span<const float> features_of(std::size_t index) const;
};

std::size_t max_results_bytes(const Batching& batching);
std::span<const std::byte> encode(const PassResults& results, std::span<std::byte> buffer);
void decode(std::span<const std::byte> bytes, PassResults& results);

}  // namespace sluice::stage
