// One rank of a run, from its configuration to its report: engine, files, weights, stage. What the
// program does in a process; tests do the same with several in one process.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "comm/device_channel.h"
#include "comm/world.h"
#include "grammar/token_trie.h"
#include "kernels/device/trace.h"
#include "launcher/config/run_config.h"
#include "launcher/generate/rank_weights.h"
#include "launcher/machine/device_share.h"
#include "launcher/model/opened_model.h"
#include "stage/drafter.h"
#include "stage/report.h"
#include "stage/request.h"
#include "stage/stage.h"

namespace sluice::launcher {

/// What a rank opens before the ranks compare notes. Throws InputError.
OpenedModel open_weights(const RunConfig& config);

/// The stages of a run over `ranks` ranks: those of the configuration, or the defaults; with layers
/// as the configuration says, or as split_layers() does. Throws ConfigError where they do not fit
/// ranks or model.
std::vector<stage::StageConfig> stages_of(const RunConfig& config, std::int32_t ranks,
                                          const stage::DecoderConfig& model);

/// What is told while a rank loads; each may be empty.
struct LoadWatch {
  std::function<void(const offload::PackingState&)> packing;  // only where weights are compressed
  std::function<void(std::uint64_t bytes)> loaded;            // after each tensor
};

/// Prompt and answer of a job's sequences, their rules, and what they may ask for: see
/// stage::Batching.
struct SequenceTokens {
  std::int32_t longest = 1;
  std::int32_t usual = 0;
  std::int32_t rule_words = 0;
  bool grammars = false;
  bool features = false;
  static auto fields(auto& self) {
    return std::tie(self.longest, self.usual, self.rule_words, self.grammars, self.features);
  }
};

class DraftRank;

class Rank {
 public:
  /// Makes the engine. `tokens`: of the job. `cores`: threads where the configuration
  /// leaves them to us. All references must outlive it. Throws ConfigError.
  Rank(const RunConfig& config, const OpenedModel& model, const SequenceTokens& tokens, int cores,
       comm::World& world);
  ~Rank();

  /// Collective: how hidden states will travel, as comm::choose_transport() says it to people.
  /// Throws ConfigError on all ranks alike.
  const std::string& choose_transport();
  /// Plans only, nothing large is allocated. Throws ConfigError, InputError.
  void plan();
  /// Throws CapacityError where this rank plans more than its budgets. After plan().
  void check_budgets() const;
  /// Collective: throws CapacityError, on all ranks alike, where the ranks of a host plan more than
  /// its memory. After plan().
  void check_memory() const;
  /// Collective: opens the way hidden states will take. Throws CommError, DeviceError.
  void connect();

  /// Of each tier. After plan().
  offload::PerTier<std::uint64_t> planned_bytes() const;
  /// Bytes that load() will report in all.
  std::uint64_t load_bytes() const;
  /// Packs this rank's slice, where that is wanted and not done, and loads it.
  void load(const LoadWatch& watch);
  stage::RunReport run(stage::Job* job);

  int threads() const { return threads_; }  // that it computes with
  stage::StageReport report() const;
  /// The tasks of a decode step, as a table. After plan().
  std::string schedule() const;
  const Trace& trace() const { return trace_; }
  kernels::Engine& engine() { return engine_; }
  /// Of all ranks. Collective.
  std::vector<RankDevice> devices() const;

 private:
  stage::StageLayout layout(const SequenceTokens& tokens) const;
  stage::Drafter* make_drafter();

  const RunConfig& config_;
  const OpenedModel& model_;
  comm::World& world_;
  Trace trace_;
  stage::StageLayout layout_;
  int threads_;
  kernels::Engine engine_;
  comm::TransportChoice transport_;
  std::unique_ptr<comm::DeviceChannel> channel_;  // with NCCL; goes before the engine
  std::unique_ptr<offload::DiskEngine> disk_;
  std::unique_ptr<offload::RunFolder> folder_;
  std::unique_ptr<RankWeights> weights_;
  std::vector<std::unique_ptr<offload::WeightSource>> adapters_;  // of the run, by number
  std::optional<grammar::TokenTrie> tokens_;     // on the last stage, where rows may have grammars
  std::unique_ptr<DraftRank> draft_;             // on rank 0, with a model that guesses
  std::optional<stage::LookUpDrafter> look_up_;  // on rank 0, where guesses are looked up
  std::unique_ptr<stage::Stage> stage_;
};

}  // namespace sluice::launcher
