#include "stage/pass_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernels/device/error.h"
#include "offload/kv/kv_cache.h"
#include "stage/token_rules.h"

namespace sluice::stage {

namespace {

void require(bool holds, const Pass& pass, const char* what) {
  if (holds) return;
  throw CommError(
      fmt::format("the header of pass {} has {}; start the same version of sluice on every rank",
                  pass.number, what));
}

bool is_below(std::int32_t value, std::int64_t end) { return value >= 0 && value < end; }

/// As it lies in the message: a bool of another value than 0 and 1 is undefined.
bool is_flag(const bool& flag) {
  unsigned char byte = 0;
  std::memcpy(&byte, &flag, sizeof byte);
  return byte <= 1;
}

void check_row(const Pass& pass, const PassRow& row, const Batching& batching, std::int64_t slots,
               std::int32_t vocabulary) {
  require(is_below(row.slot, slots), pass, "a row of a slot that is not there");
  require(row.position >= 0 && row.new_tokens >= 1 && row.total <= batching.max_sequence_tokens &&
              std::int64_t{row.position} + row.new_tokens <= row.total,
          pass, "a row of more tokens than a sequence may have");
  require(row.next_token == -1 || is_below(row.next_token, vocabulary), pass,
          "a row with a token that is not in the vocabulary");
  require(is_flag(row.sample) && is_flag(row.starts) && is_flag(row.sampling.of_beam), pass,
          "a row with a damaged flag");
  require(row.scores_from >= 0 && !(row.sample && row.next_token >= 0), pass,
          "a row that scores other tokens than it has");
  require(row.drafted >= 0 && row.drafted < row.new_tokens &&
              row.drafted <= batching.draft_tokens &&
              ((row.sample && row.scores_from == 0) || row.drafted == 0),
          pass, "a row of more guesses than it may have");
  require(
      is_flag(row.embeds) && row.embed <= Embed::mean && (row.embed != Embed::none || !row.embeds),
      pass, "a row with a damaged flag");
  require(row.embed == Embed::none || (batching.features > 0 && !row.sample &&
                                       row.scores_from == 0 && row.next_token == -1),
          pass, "a row with an embedding that no row may have");
  require(row.adapter == -1 || is_below(row.adapter, batching.adapters), pass,
          "a row of an adapter that is not there");
  require(row.sampling.answer_begin >= 0, pass, "a row whose answer begins before its prompt");
  require(row.sampling.logprobs <= kMaxLogprobs, pass, "a row with too many log-probabilities");
}

/// The rules of rows that start lie one behind the other.
void check_rules(const Pass& pass, const Batching& batching, std::int32_t vocabulary) {
  std::span<const std::int32_t> left(pass.rules);
  for (const PassRow& row : pass.rows) {
    require(row.rule_words >= 0 && row.rule_words <= batching.max_rule_words &&
                (row.starts || row.rule_words == 0) &&
                static_cast<std::size_t>(row.rule_words) <= left.size(),
            pass, "a row with more rules than a sequence may have");
    const auto own = left.first(static_cast<std::size_t>(row.rule_words));
    require(are_rules(own, vocabulary), pass, "a row with damaged rules");
    left = left.subspan(own.size());
  }
  require(left.empty(), pass, "rules of no row");
}

/// What numbers mean lies one behind the other.
void check_grammars(const Pass& pass, const Batching& batching, std::int64_t slots) {
  const std::int64_t numbers = batching.grammars ? slots : 0;
  std::int64_t bytes = 0;
  for (const PassGrammar& one : pass.grammars) {
    require(is_below(one.number, numbers) && one.bytes >= 0, pass,
            "a grammar that no row may have");
    bytes += one.bytes;
  }
  require(bytes == static_cast<std::int64_t>(pass.grammar_bytes.size()), pass,
          "other grammars than it says");
  require(std::ranges::all_of(pass.rows,
                              [&](const PassRow& row) {
                                return row.grammar == -1 || is_below(row.grammar, numbers);
                              }),
          pass, "a row of a grammar that is not there");
}

/// The numbers that rows make lie one behind the other.
void check_prefixes(const Pass& pass, std::int64_t most, std::int64_t slots) {
  const std::int32_t page_tokens = offload::KvShape{}.page_tokens;
  std::int64_t kept = 0;
  for (const PassRow& row : pass.rows) {
    const bool is_inside = row.position % page_tokens != 0;
    const bool is_first = row.starts && row.position >= page_tokens && is_inside == row.copies();
    const bool copies_one =
        row.copied_from == -1
            ? is_below(row.copied_of_slot, slots) && row.copied_of_slot != row.slot
            : is_below(row.copied_from, most) && row.copied_of_slot == -1;
    require((row.copied_from == -1 && row.copied_of_slot == -1) ||
                (copies_one && row.starts && is_inside && most > 0),
            pass, "a row that copies a page which cannot be");
    require(row.prefix == -1 || (is_below(row.prefix, most) && is_first), pass,
            "a row behind a prefix that cannot be");
    const std::int64_t full = (row.position + row.new_tokens) / page_tokens;
    require(row.kept >= 0 && row.kept_from >= 0 && std::int64_t{row.kept_from} + row.kept <= full,
            pass, "a row that keeps pages which are not full");
    kept += row.kept;
  }
  require(static_cast<std::int64_t>(pass.kept.size()) == kept, pass,
          "other prefixes than its rows make");
  const auto is_number = [&](std::int32_t prefix) { return is_below(prefix, most); };
  require(std::ranges::all_of(pass.kept, is_number) && std::ranges::all_of(pass.dropped, is_number),
          pass, "a prefix that cannot be");
}

/// Rows are sorted by GPU batch, and lie in it one behind the other.
void check_rows(const Pass& pass, const Batching& batching, std::int64_t slots,
                std::int32_t vocabulary) {
  std::int32_t gpu_batch = 0;
  std::int64_t tokens = 0;  // of this GPU batch
  std::int32_t rows = 0;
  const auto end_batch = [&] {
    require(pass.batch_tokens[static_cast<std::size_t>(gpu_batch)] == tokens, pass,
            "a GPU batch of other tokens than its rows have");
    tokens = 0;
    rows = 0;
    ++gpu_batch;
  };
  for (const PassRow& row : pass.rows) {
    require(row.gpu_batch >= gpu_batch && row.gpu_batch < batching.num_gpu_batches, pass,
            "a row of a GPU batch that is not there");
    while (gpu_batch < row.gpu_batch) end_batch();
    check_row(pass, row, batching, slots, vocabulary);
    require(row.first_token == tokens, pass, "a row at the place of another");
    tokens += row.new_tokens;
    require(++rows <= batching.gpu_batch_size && tokens <= batching.max_tokens_per_gpu_batch, pass,
            "a GPU batch larger than was planned");
  }
  while (gpu_batch < batching.num_gpu_batches) end_batch();
}

}  // namespace

void check_pass(const Pass& pass, const Batching& batching, std::int32_t stages,
                std::int32_t vocabulary) {
  require(pass.number >= 0, pass, "a number below 0");
  if (pass.end) {
    require(pass.rows.empty() && pass.tokens.empty(), pass, "rows, though it ends the job");
    return;
  }
  const std::int64_t slots = batching.slots(stages);
  require(is_below(pass.micro_batch, batching.micro_batches_for(stages)), pass,
          "a micro-batch that is not there");
  require(pass.batch_tokens.size() == static_cast<std::size_t>(batching.num_gpu_batches), pass,
          "another number of GPU batches than was planned");
  check_rows(pass, batching, slots, vocabulary);
  check_rules(pass, batching, vocabulary);
  check_grammars(pass, batching, slots);
  std::int64_t tokens = 0;
  for (const std::int32_t of_batch : pass.batch_tokens) tokens += of_batch;
  require(static_cast<std::int64_t>(pass.tokens.size()) == tokens, pass,
          "other tokens than its rows have");
  require(std::ranges::all_of(pass.tokens,
                              [&](std::int32_t token) { return is_below(token, vocabulary); }),
          pass, "a token that is not in the vocabulary");
  check_prefixes(pass, most_prefixes(batching, stages), slots);
  require(std::ranges::all_of(pass.freed, [&](std::int32_t slot) { return is_below(slot, slots); }),
          pass, "a freed slot that is not there");
}

}  // namespace sluice::stage
