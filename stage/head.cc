#include "stage/head.h"

#include <algorithm>
#include <utility>

namespace sluice::stage {

Admission::Admission(Job& job, const Batching& batching, std::int32_t stages, PageLedger ledger)
    : job_(job),
      batching_(batching),
      micro_batches_(batching.micro_batches_for(stages)),
      ledger_(std::move(ledger)) {
  rows_.resize(static_cast<std::size_t>(batching.slots(stages)));
  freed_.reserve(rows_.size());
  sampling_.resize(static_cast<std::size_t>(micro_batches_), false);
}

std::int32_t Admission::slot_of(std::int32_t micro_batch, std::int32_t gpu_batch,
                                std::int32_t index) const {
  return (micro_batch * batching_.num_gpu_batches + gpu_batch) * batching_.gpu_batch_size + index;
}

bool Admission::has_next() {
  if (!has_next_ && !exhausted_) {
    has_next_ = job_.next(next_);
    exhausted_ = !has_next_;
  }
  return has_next_;
}

/// False: no request is left for any slot.
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
  target.failed = false;
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
  const auto fill_free = [this](std::int32_t m) {
    for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
      for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
        if (!fill(slot_of(m, g, index))) return;
      }
    }
  };
  fill_free(micro_batch);
  // Where requests had to wait for pages, other micro-batches have free places, too.
  const auto has_more = [this] {
    return !exhausted_ && active_ < static_cast<std::int32_t>(rows_.size());
  };
  for (std::int32_t other = 0; other < micro_batches_ && has_more(); ++other) {
    if (other != micro_batch) fill_free(other);
  }
}

std::int32_t Admission::tokens_for(const Row& candidate, std::int32_t left, bool may_sample) const {
  if (!candidate.active || candidate.failed || left <= 0) return 0;
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
      if (tokens > 0) add_row(slot, gpu_batch, tokens, pass);
    }
  };
  // Prompts first would find rows that just became decoding a second time.
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
  const std::int32_t end = source.issued + tokens;
  if (!source.decoding()) {
    const auto begin = request.prompt.begin() + source.issued;
    pass.tokens.insert(pass.tokens.end(), begin, begin + tokens);
    added.prompt_logprobs = request.prompt_logprobs;
    if (request.prompt_logprobs && end < source.prompt_size()) {
      added.next_token = request.prompt[static_cast<std::size_t>(end)];
    }
  } else {
    pass.tokens.push_back(source.last_token);
  }
  added.sample = source.samples_after(end);
  pass.batch_tokens.back() += tokens;
  pass.rows.push_back(added);
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
      take_entry(made, target, entry);
    }
    if (target.active && target.failed) {
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

void Admission::take_entry(const PassRow& made, Row& target, const PassResult& entry) {
  if (target.failed) return;  // earlier in this pass, or in one before it
  if (entry.failed) {
    fail(target);
  } else if (entry.prompt_index >= 0) {
    job_.on_prompt_token(target.request.id, entry.prompt_index, entry.result);
  } else {
    decode_tokens_ += made.position >= target.prompt_size() ? 1 : 0;
    take_token(target, entry);
  }
}

void Admission::fail(Row& target) {
  target.failed = true;
  ++failed_;
  job_.on_failed(target.request.id, "the model's logits are not finite numbers");
}

void Admission::take_token(Row& target, const PassResult& entry) {
  ++target.generated;
  ++completion_tokens_;
  target.last_token = entry.result.token;
  const bool done = job_.on_token(target.request.id, entry.result);
  // The job ends a request at max_tokens itself; the cache has no room for more in any case.
  if (done || target.generated >= target.request.max_tokens) finish(target);
}

void Admission::finish(Row& target) {
  target.active = false;
  --active_;
  const auto slot = static_cast<std::int32_t>(&target - rows_.data());
  ledger_.release(slot);
  freed_.push_back(slot);
}

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Passes that bring further chunks of prompts (fill_bubbles).
std::int32_t heavy_passes(const Batching& batching, std::int32_t stages) {
  return std::max(batching.micro_batches_for(stages), stages + 1);
}

/// Of each micro-batch one that samples, or is its only one; and the heavy ones.
std::size_t most_flights(const Batching& batching, std::int32_t stages) {
  return static_cast<std::size_t>(batching.micro_batches_for(stages) +
                                  heavy_passes(batching, stages));
}

/// A pass under way and its message buffer.
struct Flight {
  Pass pass;
  std::vector<std::byte> message;
  comm::Transfer sent;
  std::chrono::steady_clock::time_point begin;
};

/// Flights are taken in turn: passes return in the order they were sent, as every stage works them
/// off one after the other.
class HeadLoop {
 public:
  HeadLoop(Job& job, const Batching& batching, comm::World& world,
           const std::vector<CacheRoom>& rooms)
      : admission_(job, batching, world.size(), PageLedger(rooms, batching.slots(world.size()))),
        world_(world),
        heavy_passes_(heavy_passes(batching, world.size())) {
    flights_.resize(most_flights(batching, world.size()));
    flights_of_.resize(static_cast<std::size_t>(admission_.micro_batches()), 0);
    for (Flight& flight : flights_) {
      flight.message.resize(max_pass_bytes(batching, world.size()));
      flight.pass.freed.reserve(static_cast<std::size_t>(batching.slots(world.size())));
    }
    for (std::vector<std::byte>& buffer : incoming_) buffer.resize(max_results_bytes(batching));
  }

  RunReport run() {
    const auto begin = std::chrono::steady_clock::now();
    last_ = begin;
    admission_.admit_all();
    for (std::int32_t m = 0; m < admission_.micro_batches(); ++m) launch(m);
    fill_bubbles();
    while (landed_ < launched_) {
      const std::int32_t m = land();
      admission_.admit(m);
      if (!admission_.awaits_tokens(m) && (tokens_came_ || flights_of(m) == 0)) launch(m);
      fill_bubbles();
    }
    Flight& end = flights_.front();
    end.pass.clear();
    end.pass.end = true;
    end.pass.number = launched_;
    world_.wait(world_.send(comm::Route::passes, 0, encode(end.pass, end.message)));
    report_.requests = admission_.requests();
    report_.failed = admission_.failed();
    report_.prompt_tokens = admission_.prompt_tokens();
    report_.completion_tokens = admission_.completion_tokens();
    report_.decode_tokens = admission_.decode_tokens();
    report_.wall_seconds = seconds_since(begin);
    return report_;
  }

 private:
  Flight& flight(std::int64_t number) {
    return flights_[static_cast<std::size_t>(number) % flights_.size()];
  }
  std::int32_t& flights_of(std::int32_t m) { return flights_of_[static_cast<std::size_t>(m)]; }

  bool launch(std::int32_t m) {
    if (launched_ - landed_ == static_cast<std::int64_t>(flights_.size())) return false;
    Flight& next = flight(launched_);
    if (!admission_.make_pass(m, next.pass)) return false;
    next.pass.number = launched_;
    next.sent = world_.send(comm::Route::passes, 0, encode(next.pass, next.message));
    next.begin = std::chrono::steady_clock::now();
    ++flights_of(m);
    if (launched_++ == landed_) receive_results();
    return true;
  }

  /// The receive of the next results is posted before those at hand are looked at.
  void receive_results() {
    receiving_ = world_.receive(comm::Route::results, world_.size() - 1, incoming_[landed_ % 2]);
  }

  /// Takes in the oldest pass under way; returns its micro-batch.
  std::int32_t land() {
    Flight& oldest = flight(landed_);
    const std::span<const std::byte> buffer(incoming_[landed_ % 2]);
    const std::size_t bytes = world_.wait(receiving_);
    if (++landed_ < launched_) receive_results();
    world_.wait(oldest.sent);
    decode(buffer.first(bytes), results_);
    account(oldest);
    const std::int32_t m = oldest.pass.micro_batch;
    const bool awaited = admission_.awaits_tokens(m);
    admission_.take(oldest.pass, results_);
    tokens_came_ = awaited && !admission_.awaits_tokens(m);
    --flights_of(m);
    return m;
  }

  /// Further chunks of long prompts, while passes of a micro-batch are under way, keep stages busy
  /// that would wait: where there are few prompts, and where one micro-batch computes a prompt
  /// while the others have little to do. Not where enough passes as large are under way: there a
  /// chunk loses nothing by sharing its pass with the next decode step, and saves reading the
  /// weights once. (Nor on one stage while tokens are awaited, for that reason.)
  void fill_bubbles() {
    const std::int32_t count = admission_.micro_batches();
    for (std::int32_t idle = 0; idle < count;) {
      const std::int32_t m = turn_;
      turn_ = (turn_ + 1) % count;
      idle = may_fill(m) && launch(m) ? 0 : idle + 1;
    }
  }
  bool may_fill(std::int32_t m) {
    if (world_.size() == 1 && admission_.awaits_tokens(m)) return false;
    const std::int32_t tokens = admission_.ready_tokens(m);
    // Its requests waited for pages that another micro-batch gave back.
    if (flights_of(m) == 0) return tokens > 0;
    std::int32_t as_large = 0;
    for (std::int64_t number = landed_; number < launched_; ++number) {
      as_large += 2 * flight(number).pass.tokens.size() >= static_cast<std::size_t>(tokens) ? 1 : 0;
    }
    return tokens > 0 && as_large < heavy_passes_;
  }

  /// Time from the last landing (or this launch, if later) goes to the pass that lands now.
  void account(const Flight& landing) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds =
        std::chrono::duration<double>(now - std::max(last_, landing.begin)).count();
    last_ = now;
    const double share = static_cast<double>(admission_.prefill_tokens(landing.pass)) /
                         static_cast<double>(landing.pass.tokens.size());
    report_.prefill_seconds += seconds * share;
    report_.decode_seconds += seconds * (1.0 - share);
  }

  Admission admission_;
  comm::World& world_;
  std::int32_t heavy_passes_;  // that keep all stages busy
  std::vector<Flight> flights_;
  std::vector<std::int32_t> flights_of_;  // by micro-batch: passes under way
  std::vector<std::byte> incoming_[2];    // by pass number % 2
  comm::Transfer receiving_;
  bool tokens_came_ = false;  // with the pass that landed last
  std::int32_t turn_ = 0;
  PassResults results_;
  RunReport report_;
  std::int64_t launched_ = 0;
  std::int64_t landed_ = 0;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace

std::uint64_t head_memory(const Batching& batching, std::int32_t stages) {
  // A pass has the same content as its message, which lies beside it.
  const std::uint64_t flights =
      2 * std::uint64_t{most_flights(batching, stages)} * max_pass_bytes(batching, stages);
  const auto slots = static_cast<std::uint64_t>(batching.slots(stages));
  return flights + 3 * max_results_bytes(batching) +
         slots * Admission::slot_bytes(batching.max_sequence_tokens);
}

RunReport run_head(Job& job, const Batching& batching, comm::World& world,
                   const std::vector<CacheRoom>& rooms) {
  return HeadLoop(job, batching, world, rooms).run();
}

}  // namespace sluice::stage
