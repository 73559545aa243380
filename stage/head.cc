#include "stage/head.h"

#include <algorithm>

namespace sluice::stage {

Admission::Admission(Job& job, const Batching& batching, std::int32_t stages)
    : job_(job), batching_(batching), micro_batches_(batching.micro_batches_for(stages)) {
  rows_.resize(static_cast<std::size_t>(batching.slots(stages)));
}

std::int32_t Admission::slot_of(std::int32_t micro_batch, std::int32_t gpu_batch,
                                std::int32_t index) const {
  return (micro_batch * batching_.num_gpu_batches + gpu_batch) * batching_.gpu_batch_size + index;
}

bool Admission::fill(std::int32_t slot) {
  Row& target = row(slot);
  if (target.active) return true;
  if (exhausted_) return false;
  if (!job_.next(target.request)) {
    exhausted_ = true;
    return false;
  }
  target.active = true;
  target.cached = 0;
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
  for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
    for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
      if (!fill(slot_of(micro_batch, g, index))) return;
    }
  }
}

bool Admission::make_pass(std::int32_t micro_batch, Pass& pass) {
  pass.clear();
  pass.micro_batch = micro_batch;
  for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
    add_gpu_batch(micro_batch, g, pass);
  }
  return !pass.rows.empty();
}

void Admission::add_gpu_batch(std::int32_t micro_batch, std::int32_t gpu_batch, Pass& pass) {
  pass.batch_tokens.push_back(0);
  std::int32_t& used = pass.batch_tokens.back();
  const auto add_all = [&](bool decoding) {
    for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
      const std::int32_t slot = slot_of(micro_batch, gpu_batch, index);
      const Row& candidate = row(slot);
      if (!candidate.active || candidate.decoding() != decoding) continue;
      const std::int32_t left = batching_.max_tokens_per_gpu_batch - used;
      const std::int32_t wanted = decoding ? 1 : candidate.prompt_size() - candidate.cached;
      const std::int32_t tokens = std::min(left, wanted);
      if (tokens > 0) add_row(slot, gpu_batch, tokens, pass);
    }
  };
  add_all(true);
  add_all(false);
}

void Admission::add_row(std::int32_t slot, std::int32_t gpu_batch, std::int32_t tokens,
                        Pass& pass) {
  const Row& source = row(slot);
  const Request& request = source.request;
  PassRow added;
  added.slot = slot;
  added.position = source.cached;
  added.new_tokens = tokens;
  added.first_token = pass.batch_tokens.back();
  added.gpu_batch = gpu_batch;
  added.sampling = request.sampling;
  const std::int32_t end = source.cached + tokens;
  if (!source.decoding()) {
    const auto begin = request.prompt.begin() + source.cached;
    pass.tokens.insert(pass.tokens.end(), begin, begin + tokens);
    added.prompt_logprobs = request.prompt_logprobs;
    if (request.prompt_logprobs && end < source.prompt_size()) {
      added.next_token = request.prompt[static_cast<std::size_t>(end)];
    }
  } else {
    pass.tokens.push_back(source.last_token);
  }
  added.sample = end >= source.prompt_size() && request.max_tokens > 0;
  pass.batch_tokens.back() += tokens;
  pass.rows.push_back(added);
}

std::int32_t Admission::prefill_tokens(const Pass& pass) const {
  std::int32_t tokens = 0;
  for (const PassRow& made : pass.rows) {
    if (!row(made.slot).decoding()) tokens += made.new_tokens;
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
    const bool decoding = target.decoding();
    target.cached += made.new_tokens;
    bool sampled = false;
    while (next < results.entries.size() && results.entries[next].slot == made.slot) {
      const PassResult& entry = results.entries[next++];
      if (!target.active) continue;  // failed earlier in this pass
      if (entry.failed) {
        ++failed_;
        job_.on_failed(target.request.id, "the model's logits are not finite numbers");
        finish(target);
      } else if (entry.prompt_index >= 0) {
        job_.on_prompt_token(target.request.id, entry.prompt_index, entry.result);
      } else {
        sampled = true;
        decode_tokens_ += decoding ? 1 : 0;
        take_token(target, entry);
      }
    }
    if (!target.active) continue;
    if (made.sample && !sampled) throw misfit();
    if (!made.sample && target.cached >= target.prompt_size()) {
      job_.on_prompt_done(target.request.id);
      finish(target);
    }
  }
  if (next != results.entries.size()) throw misfit();
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
}

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// A micro-batch's message buffers and its pass under way.
struct Flight {
  Pass pass;
  bool under_way = false;
  std::vector<std::byte> message;
  comm::Transfer sent;
  std::chrono::steady_clock::time_point begin;
};

class HeadLoop {
 public:
  HeadLoop(Job& job, const Batching& batching, comm::World& world)
      : admission_(job, batching, world.size()), world_(world) {
    flights_.resize(static_cast<std::size_t>(admission_.micro_batches()));
    for (Flight& flight : flights_) flight.message.resize(max_pass_bytes(batching, world.size()));
    incoming_.resize(max_results_bytes(batching));
  }

  RunReport run() {
    const auto begin = std::chrono::steady_clock::now();
    last_ = begin;
    admission_.admit_all();
    for (std::size_t m = 0; m < flights_.size(); ++m) launch(m);
    // Passes return in the order they were sent: every stage works them off one after the other.
    while (!order_.empty()) {
      const std::size_t m = order_.front();
      order_.erase(order_.begin());
      land(m);
      admission_.admit(static_cast<std::int32_t>(m));
      launch(m);
    }
    Flight& end = flights_.front();
    end.pass.clear();
    end.pass.end = true;
    end.pass.number = next_number_;
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
  void launch(std::size_t m) {
    Flight& flight = flights_[m];
    if (!admission_.make_pass(static_cast<std::int32_t>(m), flight.pass)) return;
    flight.pass.number = next_number_++;
    flight.sent = world_.send(comm::Route::passes, 0, encode(flight.pass, flight.message));
    flight.begin = std::chrono::steady_clock::now();
    order_.push_back(m);
  }

  void land(std::size_t m) {
    Flight& flight = flights_[m];
    const std::size_t bytes =
        world_.wait(world_.receive(comm::Route::results, world_.size() - 1, incoming_));
    world_.wait(flight.sent);
    decode(std::span<const std::byte>(incoming_).first(bytes), results_);
    account(flight);
    admission_.take(flight.pass, results_);
  }

  /// Time from the last landing (or this launch, if later) goes to the pass that lands now.
  void account(const Flight& flight) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds =
        std::chrono::duration<double>(now - std::max(last_, flight.begin)).count();
    last_ = now;
    const double share = static_cast<double>(admission_.prefill_tokens(flight.pass)) /
                         static_cast<double>(flight.pass.tokens.size());
    report_.prefill_seconds += seconds * share;
    report_.decode_seconds += seconds * (1.0 - share);
  }

  Admission admission_;
  comm::World& world_;
  std::vector<Flight> flights_;
  std::vector<std::size_t> order_;
  std::vector<std::byte> incoming_;
  PassResults results_;
  RunReport report_;
  std::int64_t next_number_ = 0;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace

RunReport run_head(Job& job, const Batching& batching, comm::World& world) {
  return HeadLoop(job, batching, world).run();
}

}  // namespace sluice::stage
