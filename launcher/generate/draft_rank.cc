#include "launcher/generate/draft_rank.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/device/error.h"
#include "launcher/generate/open_tokenizer.h"

namespace sluice::launcher {

namespace {

/// The configuration of a run of its own: one rank, everything in device memory.
RunConfig config_of(const RunConfig& config, const stage::Batching& batching, std::int32_t stages,
                    std::int32_t positions, const std::string& device, int threads) {
  RunConfig own = config;
  own.model = config.draft.model;
  own.draft = {};
  own.report = {};
  own.batching = stage::draft_batching(batching, stages, positions);
  own.stages.assign(1, {});
  own.stages.front().device = device;
  own.stages.front().threads = threads;
  own.stages.front().policy.compress_weight = config.draft.compress_weight;
  return own;
}

}  // namespace

void check_vocabularies(const ModelFolder& target, const ModelFolder& draft) {
  const auto refuse = [&](const std::string& why) {
    throw ConfigError(fmt::format(
        "--draft-model (draft.model): {}: {}; use a model that shares the vocabulary of {}",
        draft.path.string(), why, target.path.string()));
  };
  if (target.config.vocabulary != draft.config.vocabulary) {
    refuse(fmt::format("it has {} tokens, the model that answers has {}", draft.config.vocabulary,
                       target.config.vocabulary));
  }
  const Tokenizer theirs = open_tokenizer(target);
  const Tokenizer ours = open_tokenizer(draft);
  for (std::int32_t id = 0; id < target.config.vocabulary; ++id) {
    const bool known = theirs.has_token(id);
    if (known == ours.has_token(id) && (!known || theirs.token_bytes(id) == ours.token_bytes(id))) {
      continue;
    }
    refuse(fmt::format("token {} is not the same text there", id));
  }
}

DraftRank::DraftRank(const RunConfig& config, const ModelFolder& target,
                     const stage::Batching& batching, std::int32_t stages,
                     const std::string& device, int threads)
    : world_(comm::make_local_worlds(1)), most_guesses_(batching.draft_tokens) {
  RunConfig opening = config;
  opening.model = config.draft.model;
  opening.lora.clear();  // they are the target's
  opened_ = open_weights(opening);
  const ModelFolder& folder = opened_.folder;
  check_vocabularies(target, folder);
  config_ = config_of(config, batching, stages, folder.config.max_positions, device, threads);
  const SequenceTokens tokens{config_.batching.max_sequence_tokens, 0, 0, false};
  rank_.emplace(config_, opened_, tokens, threads, *world_.front());
  rank_->choose_transport();
  rank_->plan();
}

DraftRank::~DraftRank() { stop(); }

offload::PerTier<std::uint64_t> DraftRank::bytes() const {
  offload::PerTier<std::uint64_t> bytes = rank_->planned_bytes();
  bytes[static_cast<std::size_t>(offload::Tier::host)] +=
      stage::DraftModel::memory_bytes(config_.batching, most_guesses_);
  return bytes;
}

void DraftRank::start() {
  model_.emplace(config_.batching, most_guesses_, *world_.front());
  thread_ = std::thread([this] {
    try {
      rank_->run(nullptr);
    } catch (...) {
      cause_ = std::current_exception();
    }
  });
}

void DraftRank::stop() noexcept {
  model_.reset();
  if (thread_.joinable()) thread_.join();
}

void DraftRank::draft(std::span<stage::DraftRow> rows) {
  try {
    model_->draft(rows);
  } catch (const CommError&) {
    if (thread_.joinable()) thread_.join();
    if (cause_) std::rethrow_exception(cause_);
    throw;
  }
}

}  // namespace sluice::launcher
