// The head's rule for guesses: which rows of a pass have how many.
#include <algorithm>

#include "stage/head.h"
#include "stage/pass_shape.h"

namespace sluice::stage {

namespace {

/// The first pass of so many has no guesses, so that it is known what they cost.
constexpr std::uint64_t kPassesToCompare = 64;

}  // namespace

/// Makes the guesses of the rows that the next pass of a micro-batch decodes.
void Admission::draft(std::int32_t micro_batch) {
  if (drafter_ == nullptr || awaits_tokens(micro_batch)) return;
  draft_rows_.clear();
  for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) add_draft_rows(micro_batch, g);
  if (draft_rows_.empty()) return;
  if (batching_.draft_adapts && draft_passes_++ % kPassesToCompare == 0) return;
  const double before = drafter_->seconds();
  drafter_->draft(draft_rows_);
  std::int32_t made_guesses = 0;
  for (const DraftRow& made : draft_rows_) made_guesses += made.count;
  pace_.drafted(made_guesses, drafter_->seconds() - before);
  for (const DraftRow& made : draft_rows_) {
    HeadRow& target = row(made.slot);
    std::int32_t count = std::min(made.count, static_cast<std::int32_t>(made.guesses.size()));
    while (count > 0 && !ledger_.grow_for_guesses(made.slot, target.known(), count)) --count;
    target.guesses = made.guesses.first(static_cast<std::size_t>(count));
  }
  evict_idle();
}

/// Guesses share half of the tokens that a GPU batch has left; chunks of prompts find the rest.
void Admission::add_draft_rows(std::int32_t micro_batch, std::int32_t gpu_batch) {
  const auto first = static_cast<std::size_t>(slot_of(micro_batch, gpu_batch, 0));
  const std::span<HeadRow> rows =
      std::span(rows_).subspan(first, static_cast<std::size_t>(batching_.gpu_batch_size));
  const auto decodes = [this](const HeadRow& one) {
    return one.decoding() && tokens_for(one, 1, true) > 0;
  };
  for (HeadRow& one : rows) one.guesses = {};
  const auto count = static_cast<std::int32_t>(std::ranges::count_if(rows, decodes));
  if (count == 0) return;
  const std::int32_t room = (batching_.max_tokens_per_gpu_batch - count) / 2 / count;
  for (HeadRow& one : rows) {
    if (!decodes(one) || one.request.sampling.of_beam) continue;
    std::int32_t most = std::min({batching_.draft_tokens, room, one.total() - one.known()});
    if (batching_.draft_adapts) most = pace_.worth(one.acceptance, most);
    if (most <= 0) continue;
    const auto index = draft_rows_.size() * static_cast<std::size_t>(batching_.draft_tokens);
    const std::span<std::int32_t> guesses =
        std::span(guesses_).subspan(index, static_cast<std::size_t>(most));
    draft_rows_.push_back(
        {slot_of(one), one.starts, one.request.prompt, &one.request.sampling, guesses, 0});
  }
}

/// A row's pass is back: `results` tokens, of which all but one were guessed, and `taken` of these
/// that the job took.
void Admission::judge_guesses(const PassRow& made, std::int32_t results, std::int32_t taken) {
  const std::int32_t right = results - 1;
  const std::int32_t tried = std::min(right + 1, made.drafted);
  row(made.slot).acceptance.fade();
  row(made.slot).acceptance.add(tried, right);
  if (made.drafted == 0) return;
  pace_.tried(tried, right);
  drafted_tokens_ += static_cast<std::uint64_t>(made.drafted);
  accepted_tokens_ += static_cast<std::uint64_t>(std::max(taken - 1, 0));
}

void Admission::took(const Pass& pass, std::uint64_t gained, double seconds) {
  if (drafter_ == nullptr || !decodes(pass)) return;
  pace_.took(static_cast<std::int32_t>(pass.tokens.size()), gained, seconds);
}

}  // namespace sluice::stage
