#include "stage/draft_model.h"

#include <algorithm>
#include <chrono>

#include "stage/topology.h"

namespace sluice::stage {

namespace {

std::int32_t known_of(const DraftRow& row) { return static_cast<std::int32_t>(row.tokens.size()); }

}  // namespace

Batching draft_batching(const Batching& batching, std::int32_t stages, std::int32_t positions) {
  Batching own = batching;
  own.micro_batches = batching.micro_batches_for(stages);
  own.share_prefixes = false;
  own.max_sequence_tokens = std::min(batching.max_sequence_tokens, positions);
  own.usual_sequence_tokens = 0;  // every slot has pages for the longest: nobody counts them
  own.max_rule_words = 0;
  own.grammars = false;
  own.draft_tokens = 0;
  return own;
}

DraftModel::DraftModel(const Batching& batching, std::int32_t most_guesses, comm::World& world)
    : batching_(batching), world_(world) {
  slots_.resize(static_cast<std::size_t>(batching.slots(1)));
  for (Slot& slot : slots_) slot.guesses.reserve(static_cast<std::size_t>(most_guesses));
  const std::size_t rows = slots_.size() / static_cast<std::size_t>(batching.micro_batches);
  work_.reserve(rows);
  sampled_.reserve(rows);
  results_.reserve(batching);
  message_.resize(max_pass_bytes(batching, 1));
  incoming_.resize(max_results_bytes(batching));
}

DraftModel::~DraftModel() {
  pass_.clear();
  pass_.end = true;
  try {
    send_pass();
  } catch (const Error&) {
    // The stage has failed, and whoever runs it knows.
  }
}

std::uint64_t DraftModel::memory_bytes(const Batching& batching, std::int32_t most_guesses) {
  const auto slots = static_cast<std::uint64_t>(batching.slots(1));
  const std::uint64_t of_slot = sizeof(Slot) + sizeof(Work) + sizeof(std::size_t) +
                                static_cast<std::uint64_t>(most_guesses) * sizeof(std::int32_t);
  return slots * of_slot + 2 * max_pass_bytes(batching, 1) + 2 * max_results_bytes(batching);
}

void DraftModel::draft(std::span<DraftRow> rows) {
  const auto begun = std::chrono::steady_clock::now();
  work_.clear();
  for (DraftRow& row : rows) begin(row);
  while (make_pass()) {
    send_pass();
    take_results();
  }
  for (const Work& work : work_) {
    Slot& slot = slots_[static_cast<std::size_t>(work.row->slot)];
    slot.known = std::min(work.position, known_of(*work.row));
    const auto in_cache = static_cast<std::size_t>(work.position - slot.known);
    slot.guesses.assign(work.row->guesses.begin(),
                        work.row->guesses.begin() + static_cast<std::ptrdiff_t>(in_cache));
  }
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

/// Finds out how much of the row the cache has already.
void DraftModel::begin(DraftRow& row) {
  row.count = 0;
  Slot& slot = slots_[static_cast<std::size_t>(row.slot)];
  if (slot.start != row.start) {
    slot.start = row.start;
    slot.known = 0;
    slot.guesses.clear();
  }
  const std::int32_t known = known_of(row);
  std::int32_t cached = slot.known;
  for (const std::int32_t guess : slot.guesses) {
    if (cached >= known || guess != row.tokens[static_cast<std::size_t>(cached)]) break;
    ++cached;
  }
  const auto most = static_cast<std::int32_t>(row.guesses.size());
  if (known + most - 1 > batching_.max_sequence_tokens) return;
  work_.push_back({&row, std::min(cached, known - 1), false});
}

/// False: all guesses are made.
bool DraftModel::make_pass() {
  pass_.clear();
  pass_.batch_tokens.assign(static_cast<std::size_t>(batching_.num_gpu_batches), 0);
  sampled_.clear();
  for (Work& work : work_) {
    if (work.done) continue;
    const std::int32_t group = work.row->slot / batching_.gpu_batch_size;
    const std::int32_t gpu_batch = group % batching_.num_gpu_batches;
    pass_.micro_batch = group / batching_.num_gpu_batches;
    const std::int32_t left = batching_.max_tokens_per_gpu_batch -
                              pass_.batch_tokens[static_cast<std::size_t>(gpu_batch)];
    const std::int32_t wanted = known_of(*work.row) + work.row->count - work.position;
    if (left > 0) add_row(work, gpu_batch, std::min(left, wanted));
  }
  return !pass_.rows.empty();
}

void DraftModel::add_row(Work& work, std::int32_t gpu_batch, std::int32_t tokens) {
  const DraftRow& row = *work.row;
  const std::int32_t known = known_of(row);
  std::int32_t& used = pass_.batch_tokens[static_cast<std::size_t>(gpu_batch)];
  PassRow added;
  added.slot = row.slot;
  added.position = work.position;
  added.new_tokens = tokens;
  added.total = batching_.max_sequence_tokens;
  added.first_token = used;
  added.gpu_batch = gpu_batch;
  added.starts = work.position == 0;
  added.sampling = *row.sampling;
  added.sampling.logprobs = -1;
  used += tokens;
  for (; tokens > 0; --tokens, ++work.position) {
    const std::span<const std::int32_t> guesses = row.guesses;
    pass_.tokens.push_back(work.position < known
                               ? row.tokens[static_cast<std::size_t>(work.position)]
                               : guesses[static_cast<std::size_t>(work.position - known)]);
  }
  added.sample = work.position == known + row.count;
  pass_.rows.push_back(added);
  if (added.sample) sampled_.push_back(static_cast<std::size_t>(&work - work_.data()));
}

void DraftModel::send_pass() {
  pass_.number = passes_++;
  world_.wait(world_.send(comm::Route::passes, 0, encode(pass_, message_)));
}

void DraftModel::take_results() {
  const std::size_t bytes = world_.wait(world_.receive(comm::Route::results, 0, incoming_));
  decode(std::span<const std::byte>(incoming_).first(bytes), results_);
  if (results_.number != pass_.number || results_.entries.size() != sampled_.size()) {
    throw CommError("the results of a draft model's pass do not fit it; this is a bug in sluice");
  }
  for (std::size_t i = 0; i < sampled_.size(); ++i) {
    Work& work = work_[sampled_[i]];
    DraftRow& row = *work.row;
    const PassResult& entry = results_.entries[i];
    work.done = entry.failed();
    if (work.done) continue;
    row.guesses[static_cast<std::size_t>(row.count++)] = entry.token;
    work.done = row.count == static_cast<std::int32_t>(row.guesses.size());
  }
}

}  // namespace sluice::stage
