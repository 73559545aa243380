#include "stage/head.h"

#include <algorithm>
#include <utility>

#include "kernels/ops.h"

namespace sluice::stage {

Admission::Admission(Job& job, const Batching& batching, std::int32_t stages, PageLedger ledger)
    : job_(job),
      batching_(batching),
      micro_batches_(batching.micro_batches_for(stages)),
      ledger_(std::move(ledger)),
      grammars_(batching.slots(stages)) {
  rows_.resize(static_cast<std::size_t>(batching.slots(stages)));
  freed_.reserve(rows_.size());
  sampling_.resize(static_cast<std::size_t>(micro_batches_), false);
}

std::int32_t Admission::slot_of(std::int32_t micro_batch, std::int32_t gpu_batch,
                                std::int32_t index) const {
  return (micro_batch * batching_.num_gpu_batches + gpu_batch) * batching_.gpu_batch_size + index;
}

bool Admission::has_next() {
  if (!has_next_ && !no_more_) {
    const Next answer = job_.next(next_);
    has_next_ = answer == Next::request;
    no_more_ = answer == Next::no_more;
  }
  return has_next_;
}

/// False: there is no request now for any slot.
bool Admission::fill(std::int32_t slot) {
  Row& target = row(slot);
  if (target.active) return true;
  if (!has_next()) return false;
  std::swap(target.request, next_);
  if (!ledger_.reserve(slot, target.total())) {
    std::swap(target.request, next_);
    return true;  // another slot's home tier may have pages
  }
  has_next_ = false;
  target.active = true;
  target.started = false;
  target.grammar = grammars_.take(target.request.grammar);
  target.dropped = false;
  target.issued = 0;
  target.passes = 0;
  target.generated = 0;
  target.last_token = -1;
  ++active_;
  ++requests_;
  prompt_tokens_ += target.request.prompt.size();
  return true;
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

std::int32_t Admission::tokens_for(const Row& candidate, std::int32_t left, bool may_sample) const {
  if (!candidate.active || candidate.dropped || left <= 0) return 0;
  if (candidate.decoding()) return may_sample && candidate.request.max_tokens > 0 ? 1 : 0;
  const std::int32_t tokens = std::min(left, candidate.prompt_size() - candidate.issued);
  return may_sample || !candidate.samples_after(candidate.issued + tokens) ? tokens : 0;
}

std::int32_t Admission::ready_tokens(std::int32_t micro_batch) const {
  std::int32_t tokens = 0;
  for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
    std::int32_t left = batching_.max_tokens_per_gpu_batch;
    for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
      const Row& candidate = row(slot_of(micro_batch, g, index));
      left -= tokens_for(candidate, left, !awaits_tokens(micro_batch));
    }
    tokens += batching_.max_tokens_per_gpu_batch - left;
  }
  return tokens;
}

bool Admission::make_pass(std::int32_t micro_batch, Pass& pass) {
  pass.clear();
  pass.micro_batch = micro_batch;
  for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
    add_gpu_batch(micro_batch, g, pass);
  }
  for (const PassRow& made : pass.rows) {
    if (made.sample) sampling_[static_cast<std::size_t>(micro_batch)] = true;
  }
  if (pass.rows.empty()) return false;
  pass.freed.assign(freed_.begin(), freed_.end());
  freed_.clear();
  return true;
}

void Admission::add_gpu_batch(std::int32_t micro_batch, std::int32_t gpu_batch, Pass& pass) {
  pass.batch_tokens.push_back(0);
  const std::int32_t& used = pass.batch_tokens.back();
  const auto add_all = [&](bool decoding) {
    for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
      const std::int32_t slot = slot_of(micro_batch, gpu_batch, index);
      if (row(slot).decoding() != decoding) continue;
      const std::int32_t left = batching_.max_tokens_per_gpu_batch - used;
      const std::int32_t tokens = tokens_for(row(slot), left, !awaits_tokens(micro_batch));
      if (tokens > 0 && grammars_.fits(row(slot).grammar, pass))
        add_row(slot, gpu_batch, tokens, pass);
    }
  };
  // If prompts came first, rows that just became decoding would be found a second time.
  add_all(true);
  add_all(false);
}

void Admission::add_row(std::int32_t slot, std::int32_t gpu_batch, std::int32_t tokens,
                        Pass& pass) {
  Row& source = row(slot);
  const Request& request = source.request;
  PassRow added;
  added.slot = slot;
  added.position = source.issued;
  added.new_tokens = tokens;
  added.total = source.total();
  added.first_token = pass.batch_tokens.back();
  added.gpu_batch = gpu_batch;
  added.sampling = request.sampling;
  added.starts = !source.started;
  added.grammar = source.grammar;
  grammars_.send(source.grammar, pass);
  if (added.starts) {
    added.rule_words = static_cast<std::int32_t>(request.rules.size());
    pass.rules.insert(pass.rules.end(), request.rules.begin(), request.rules.end());
  }
  const std::int32_t end = source.issued + tokens;
  if (!source.decoding()) {
    const auto begin = request.prompt.begin() + source.issued;
    pass.tokens.insert(pass.tokens.end(), begin, begin + tokens);
    added.scores_from = request.scores_from;
    const auto next = static_cast<std::size_t>(end);
    if (request.scores_from > 0 && next < request.prompt.size()) {
      added.next_token = request.prompt[next];
    }
  } else {
    pass.tokens.push_back(source.last_token);
  }
  added.sample = source.samples_after(end);
  pass.batch_tokens.back() += tokens;
  pass.rows.push_back(added);
  source.started = true;
  source.issued = end;
  ++source.passes;
}

std::int32_t Admission::prefill_tokens(const Pass& pass) const {
  std::int32_t tokens = 0;
  for (const PassRow& made : pass.rows) {
    if (made.position < row(made.slot).prompt_size()) tokens += made.new_tokens;
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
  for (const PassRow& made : pass.rows) {
    Row& target = row(made.slot);
    --target.passes;
    if (made.sample) sampling_[static_cast<std::size_t>(pass.micro_batch)] = false;
    bool sampled = false;
    while (next < results.entries.size() && results.entries[next].slot == made.slot) {
      const PassResult& entry = results.entries[next++];
      sampled = sampled || entry.prompt_index < 0;
      take_entry(made, target, entry, results);
    }
    if (target.active && target.dropped) {
      if (target.passes == 0) finish(target);
      continue;
    }
    if (made.sample) {
      if (!sampled) throw misfit();
    } else if (made.position + made.new_tokens >= target.prompt_size()) {
      job_.on_prompt_done(target.request.id);
      finish(target);
    }
  }
  if (next != results.entries.size()) throw misfit();
}

void Admission::take_entry(const PassRow& made, Row& target, const PassResult& entry,
                           const PassResults& results) {
  if (target.dropped) return;  // earlier in this pass, or before it was back
  if (entry.failed()) {
    fail(target, entry.token);
  } else if (entry.prompt_index >= 0) {
    job_.on_prompt_token(target.request.id, entry.prompt_index, results.result_of(entry));
  } else {
    decode_tokens_ += made.position >= target.prompt_size() ? 1 : 0;
    take_token(target, results.result_of(entry));
  }
}

/// `why`: in place of a token.
void Admission::fail(Row& target, std::int32_t why) {
  target.dropped = true;
  ++failed_;
  job_.on_failed(target.request.id,
                 why == kernels::kAllRuledOut
                     ? "the row's settings (bad_words, no_repeat_ngram_size, min_tokens, "
                       "logit_bias, and what the answer must be) rule out every token"
                     : "the model's logits are not finite numbers");
}

void Admission::cancel(std::uint64_t id) {
  if (has_next_ && next_.id == id) {
    has_next_ = false;
    ++cancelled_;
    return job_.on_cancelled(id);
  }
  const auto found = std::find_if(rows_.begin(), rows_.end(), [id](const Row& one) {
    return one.active && !one.dropped && one.request.id == id;
  });
  if (found == rows_.end()) return;
  found->dropped = true;
  ++cancelled_;
  job_.on_cancelled(id);
  if (found->passes == 0) finish(*found);
}

void Admission::take_token(Row& target, const TokenResult& result) {
  ++target.generated;
  ++completion_tokens_;
  target.last_token = result.token;
  const bool done = job_.on_token(target.request.id, result);
  // The job ends a request at max_tokens itself; the cache has no room for more in any case.
  if (done || target.generated >= target.request.max_tokens) finish(target);
}

void Admission::finish(Row& target) {
  target.active = false;
  --active_;
  const auto slot = static_cast<std::int32_t>(&target - rows_.data());
  ledger_.release(slot);
  grammars_.release(std::exchange(target.grammar, -1));
  freed_.push_back(slot);
}

}  // namespace sluice::stage
