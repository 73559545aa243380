#include "stage/head.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "kernels/ops.h"

namespace sluice::stage {

Admission::Admission(Job& job, const Batching& batching, std::int32_t stages, PageLedger ledger,
                     Drafter* drafter)
    : job_(job),
      batching_(batching),
      micro_batches_(batching.micro_batches_for(stages)),
      look_ahead_(static_cast<std::size_t>(batching.look_ahead(stages))),
      ledger_(std::move(ledger)),
      grammars_(batching.slots(stages)),
      prefixes_(ledger_.prefix_pages(), ledger_.page_tokens()) {
  if (!prefixes_.is_on()) look_ahead_ = 1;
  dropped_.reserve(static_cast<std::size_t>(ledger_.prefix_pages()));
  kinds_.resize(ledger_.kinds());
  rows_.resize(static_cast<std::size_t>(batching.slots(stages)));
  freed_.reserve(rows_.size());
  sampling_.resize(static_cast<std::size_t>(micro_batches_), false);
  if (batching.draft_tokens == 0) return;
  drafter_ = drafter != nullptr ? drafter : &look_up_;
  const std::size_t rows = rows_.size() / static_cast<std::size_t>(micro_batches_);
  draft_rows_.reserve(rows);
  guesses_.resize(rows * static_cast<std::size_t>(batching.draft_tokens));
}

std::int32_t Admission::slot_of(std::int32_t micro_batch, std::int32_t gpu_batch,
                                std::int32_t index) const {
  return (micro_batch * batching_.num_gpu_batches + gpu_batch) * batching_.gpu_batch_size + index;
}

/// Asks the job for one more request. False: it has none now, or enough wait.
bool Admission::take_next() {
  if (no_more_ || waiting_.size() >= look_ahead_) return false;
  HeadRow next;
  const Next answer = job_.next(next.request);
  no_more_ = answer == Next::no_more;
  if (answer != Next::request) return false;
  next.number = taken_++;
  next.asked = next.known();
  join_queue(std::move(next));
  return true;
}

/// False: there is no request now for any slot.
bool Admission::fill(std::int32_t slot) {
  if (row(slot).active) return true;
  while (take_next()) continue;
  for (auto next = waiting_.begin(); next != waiting_.end(); ++next) {
    const std::int32_t kind = ledger_.kind_of(slot, next->total());
    if (is_held(*next, kind)) {
      holds_ = true;
      continue;
    }
    if (take_pages(slot, *next, kind)) {
      row(slot) = std::move(*next);
      waiting_.erase(next);
      start(row(slot));
    }
    return true;
  }
  return !waiting_.empty();
}

/// A request that waited has its slot and pages.
void Admission::start(HeadRow& started) {
  started.active = true;
  started.starts = ++starts_;
  started.grammar = grammars_.take(started.request.grammar);
  started.prefill = started.known() - (started.is_only_scored() ? 1 : 0);
  started.request.prompt.reserve(
      static_cast<std::size_t>(started.asked + started.request.max_tokens));
  ++active_;
  if (std::exchange(started.is_counted, true)) return;
  started.age = started_++;
  ++requests_;
  prompt_tokens_ += static_cast<std::uint64_t>(started.asked);
}

void Admission::admit_all() {
  for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
    for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
      for (std::int32_t m = 0; m < micro_batches_; ++m) {
        if (!fill(slot_of(m, g, index))) return;
      }
    }
  }
}

void Admission::admit_held() {
  if (std::exchange(holds_, false)) admit_all();
}

void Admission::admit(std::int32_t micro_batch) {
  if (!fill_free(micro_batch)) return;
  // Where requests had to wait for pages, or the job had none, other micro-batches have free
  // places, too.
  for (std::int32_t other = 0; other < micro_batches_; ++other) {
    if (active_ == static_cast<std::int32_t>(rows_.size())) return;
    if (other != micro_batch && !fill_free(other)) return;
  }
}

/// False: there is no request now.
bool Admission::fill_free(std::int32_t micro_batch) {
  for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
    for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
      if (!fill(slot_of(micro_batch, g, index))) return false;
    }
  }
  return true;
}

std::int32_t Admission::tokens_for(const HeadRow& candidate, std::int32_t left,
                                   bool may_sample) const {
  if (!candidate.goes_on() || left <= 0) return 0;
  if (candidate.decoding()) {
    if (!may_sample || candidate.request.max_tokens == 0) return 0;
    if (is_short(slot_of(candidate))) return 0;
    return 1 + static_cast<std::int32_t>(candidate.guesses.size());
  }
  const std::int32_t tokens = std::min(left, candidate.prefill - candidate.issued);
  return may_sample || !candidate.samples_after(candidate.issued + tokens) ? tokens : 0;
}

std::int32_t Admission::ready_tokens(std::int32_t micro_batch) const {
  std::int32_t tokens = 0;
  for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
    std::int32_t left = batching_.max_tokens_per_gpu_batch;
    for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
      const HeadRow& candidate = row(slot_of(micro_batch, g, index));
      left -= tokens_for(candidate, left, !awaits_tokens(micro_batch));
    }
    tokens += batching_.max_tokens_per_gpu_batch - left;
  }
  return tokens;
}

bool Admission::make_pass(std::int32_t micro_batch, Pass& pass) {
  pass.clear();
  pass.micro_batch = micro_batch;
  draft(micro_batch);
  find_copies(micro_batch);
  for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
    add_gpu_batch(micro_batch, g, pass);
  }
  for (const PassRow& made : pass.rows) {
    if (made.sample) sampling_[static_cast<std::size_t>(micro_batch)] = true;
  }
  if (pass.rows.empty()) return false;
  pass.freed.assign(freed_.begin(), freed_.end());
  freed_.clear();
  pass.dropped.assign(dropped_.begin(), dropped_.end());
  dropped_.clear();
  return true;
}

void Admission::add_gpu_batch(std::int32_t micro_batch, std::int32_t gpu_batch, Pass& pass) {
  pass.batch_tokens.push_back(0);
  const std::int32_t& used = pass.batch_tokens.back();
  const auto add_all = [&](bool decoding, std::int32_t adapter) {
    for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
      const std::int32_t slot = slot_of(micro_batch, gpu_batch, index);
      if (row(slot).decoding() != decoding || row(slot).request.adapter != adapter) continue;
      const std::int32_t left = batching_.max_tokens_per_gpu_batch - used;
      const std::int32_t tokens = tokens_for(row(slot), left, !awaits_tokens(micro_batch));
      if (tokens > 0 && grammars_.fits(row(slot).grammar, pass))
        add_row(slot, gpu_batch, tokens, pass);
    }
  };
  // If prompts came first, rows that just became decoding would be found a second time.
  // Rows with the same adapter are neighbours, and go through its products together.
  for (const bool decoding : {true, false}) {
    for (std::int32_t adapter = -1; adapter < batching_.adapters; ++adapter) {
      add_all(decoding, adapter);
    }
  }
}

void Admission::add_row(std::int32_t slot, std::int32_t gpu_batch, std::int32_t tokens,
                        Pass& pass) {
  HeadRow& source = row(slot);
  const Request& request = source.request;
  PassRow added;
  added.slot = slot;
  added.position = source.issued;
  added.new_tokens = tokens;
  added.total = source.total();
  added.first_token = pass.batch_tokens.back();
  added.gpu_batch = gpu_batch;
  added.sampling = request.sampling;
  added.starts = !source.on_stages;
  added.grammar = source.grammar;
  added.adapter = request.adapter;
  grammars_.send(source.grammar, pass);
  if (added.starts) {
    added.rule_words = static_cast<std::int32_t>(request.rules.size());
    pass.rules.insert(pass.rules.end(), request.rules.begin(), request.rules.end());
    if (!source.path.empty()) added.prefix = source.path.back();
    if (source.copied > 0) {
      added.copied_from = source.copied_from;
      added.copied_of_slot = source.copied_of_slot;
    }
    const std::int32_t saved = source.issued - std::exchange(source.computed, 0);
    (saved > 0 ? shared_prefix_tokens_ : recomputed_tokens_) +=
        static_cast<std::uint64_t>(std::abs(saved));
  }
  const std::span<const std::int32_t> guesses = std::exchange(source.guesses, {});
  added.drafted = static_cast<std::int32_t>(guesses.size());
  keep_pages(source, added, pass);
  const std::int32_t end = source.issued + tokens;
  const auto begin = request.prompt.begin() + source.issued;
  pass.tokens.insert(pass.tokens.end(), begin, begin + tokens - added.drafted);
  pass.tokens.insert(pass.tokens.end(), guesses.begin(), guesses.end());
  added.scores_from = source.scores_from();
  if (added.scores_from > 0 && end < source.asked) {
    added.next_token = request.prompt[static_cast<std::size_t>(end)];
  }
  added.sample = source.samples_after(end);
  added.embed = request.embed;
  added.embeds = request.embed != Embed::none && end == source.prefill;
  pass.batch_tokens.back() += tokens;
  pass.rows.push_back(added);
  source.issued = end;
  source.on_stages = true;
  ++source.passes;
}

std::int32_t Admission::prefill_tokens(const Pass& pass) const {
  std::int32_t tokens = 0;
  for (const PassRow& made : pass.rows) {
    if (made.position < row(made.slot).prefill) tokens += made.new_tokens;
  }
  return tokens;
}

void Admission::take(const Pass& pass, const PassResults& results) {
  const auto misfit = [&pass] {
    return CommError("the results of pass " + std::to_string(pass.number) +
                     " do not fit it; this is a bug in sluice");
  };
  if (results.number != pass.number || results.micro_batch != pass.micro_batch) throw misfit();
  std::size_t next = 0;
  std::size_t embedded = 0;
  if (results.features.size() !=
      results.embedded.size() * static_cast<std::size_t>(batching_.features)) {
    throw misfit();
  }
  for (const PassRow& made : pass.rows) {
    HeadRow& target = row(made.slot);
    --target.passes;
    if (made.sample) sampling_[static_cast<std::size_t>(pass.micro_batch)] = false;
    // Guesses count no longer: what follows is known by the results.
    target.issued -= made.drafted;
    std::int32_t sampled = 0;
    const std::int32_t before = target.generated;
    while (next < results.entries.size() && results.entries[next].slot == made.slot) {
      const PassResult& entry = results.entries[next++];
      sampled += entry.prompt_index < 0 ? 1 : 0;
      take_entry(made, target, entry, results);
    }
    if (made.embeds) {
      if (embedded == results.embedded.size() || results.embedded[embedded] != made.slot) {
        throw misfit();
      }
      take_embedding(target, results.features_of(embedded++));
    }
    if (target.active && target.dropped) {
      if (target.passes == 0) finish(target);
      continue;
    }
    if (made.sample) {
      if (sampled < 1 || sampled > 1 + made.drafted) throw misfit();
      judge_guesses(made, sampled, target.generated - before);
    } else if (made.position + made.new_tokens >= target.prefill) {
      job_.on_prompt_done(target.request.id);
      finish(target);
    }
    if (target.active && target.stepping && target.passes == 0) step_back(target);
  }
  if (next != results.entries.size() || embedded != results.embedded.size()) throw misfit();
  make_room();
}

void Admission::take_entry(const PassRow& made, HeadRow& target, const PassResult& entry,
                           const PassResults& results) {
  // Earlier in this pass, or before it was back; or the answer has ended before all guesses.
  if (target.dropped || !target.active) return;
  if (entry.failed()) {
    fail(target, entry.token);
  } else if (entry.prompt_index >= 0) {
    // A row that stepped back in its prompt is scored from its beginning again.
    if (entry.prompt_index <= target.scored || entry.prompt_index >= target.asked) return;
    target.scored = entry.prompt_index;
    job_.on_prompt_token(target.request.id, entry.prompt_index, results.result_of(entry));
  } else {
    decode_tokens_ += made.position >= target.prefill ? 1 : 0;
    take_token(target, results.result_of(entry));
  }
}

void Admission::take_embedding(HeadRow& target, std::span<const float> values) {
  if (target.dropped) return;
  if (std::ranges::all_of(values, [](float value) { return std::isfinite(value); })) {
    return job_.on_embedding(target.request.id, values);
  }
  fail(target, kernels::kNotFinite);
}

/// `why`: in place of a token.
void Admission::fail(HeadRow& target, std::int32_t why) {
  target.dropped = true;
  ++failed_;
  job_.on_failed(target.request.id,
                 why == kernels::kAllRuledOut
                     ? "the row's settings (bad_words, no_repeat_ngram_size, min_tokens, "
                       "logit_bias, and what the answer must be) rule out every token"
                 : target.request.embed != Embed::none
                     ? "the model's hidden states are not finite numbers"
                     : "the model's logits are not finite numbers");
}

void Admission::cancel(std::uint64_t id) {
  const auto has_id = [id](const HeadRow& one) { return one.request.id == id; };
  if (const auto found = std::ranges::find_if(waiting_, has_id); found != waiting_.end()) {
    waiting_.erase(found);
    ++cancelled_;
    return job_.on_cancelled(id);
  }
  const auto found = std::ranges::find_if(
      rows_, [&](const HeadRow& one) { return one.active && !one.dropped && has_id(one); });
  if (found == rows_.end()) return;
  found->dropped = true;
  ++cancelled_;
  job_.on_cancelled(id);
  if (found->passes > 0) return;
  finish(*found);
  make_room();
}

void Admission::take_token(HeadRow& target, const TokenResult& result) {
  ++target.generated;
  ++completion_tokens_;
  target.request.prompt.push_back(result.token);
  target.issued = target.known() - 1;
  const bool done = job_.on_token(target.request.id, result);
  // The job ends a request at max_tokens itself; the cache has no room for more in any case.
  if (done || target.generated >= target.request.max_tokens) return finish(target);
  const std::int32_t slot = slot_of(target);
  if (!ledger_.grow(slot, target.issued + 1)) short_.push_back(slot);
  evict_idle();
}

void Admission::finish(HeadRow& target) {
  leave(target);
  target.active = false;
}

/// Gives up the place and the pages.
void Admission::leave(HeadRow& target) {
  const std::int32_t slot = slot_of(target);
  --active_;
  ledger_.release(slot);
  leave_prefix(target);
  grammars_.release(std::exchange(target.grammar, -1));
  if (target.on_stages) freed_.push_back(slot);
}

}  // namespace sluice::stage
