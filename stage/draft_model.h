// Guesses by a small model of the same vocabulary, whole, in the process of the head: a pipeline of
// one stage, whose head this is. A row's slot there is its slot here, and its keys and values stay
// from one guess to the next. (Leviathan et al., "Fast Inference from Transformers via Speculative
// Decoding", 2023; Chen et al., "Accelerating Large Language Model Decoding with Speculative
// Sampling", 2023. Verification here compares tokens: these depend on seed and position alone.)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/world.h"
#include "stage/drafter.h"
#include "stage/pass.h"
#include "stage/stage_config.h"

namespace sluice::stage {

/// How the stage of the small model is run for a head with this batching over so many stages: the
/// same slots, and no guesses. `positions`: most tokens that the small model reads.
Batching draft_batching(const Batching& batching, std::int32_t stages, std::int32_t positions);

class DraftModel : public Drafter {
 public:
  /// `world`: of one rank. Another thread runs its stage, with the same draft_batching() and no
  /// job (Stage::run(nullptr)), as long as this lives. Guesses are at most `most_guesses`.
  DraftModel(const Batching& batching, std::int32_t most_guesses, comm::World& world);
  /// Ends the stage's run, unless it has failed.
  ~DraftModel() override;
  DraftModel(const DraftModel&) = delete;
  DraftModel& operator=(const DraftModel&) = delete;

  /// A guess is sampled as the row asks it, with the row's chance of that position: models that
  /// think alike then say the same also where they sample. Where a row gets longer than the small
  /// model reads, nothing is guessed. Throws CommError where the stage has failed.
  void draft(std::span<DraftRow> rows) override;
  double seconds() const override { return seconds_; }

  /// Host memory beside the stage's: messages, and what is known of the slots.
  static std::uint64_t memory_bytes(const Batching& batching, std::int32_t most_guesses);

 private:
  /// What the cache of the small model has of a slot: `known` tokens of the row, and guesses.
  struct Slot {
    std::uint64_t start = 0;
    std::int32_t known = 0;
    std::vector<std::int32_t> guesses;
  };
  /// A row that is guessed for now.
  struct Work {
    DraftRow* row = nullptr;
    std::int32_t position = 0;  // of the next token that goes into a pass
    bool done = false;
  };

  void begin(DraftRow& row);
  bool make_pass();
  void add_row(Work& work, std::int32_t gpu_batch, std::int32_t tokens);
  void send_pass();
  void take_results();

  const Batching batching_;
  comm::World& world_;
  std::vector<Slot> slots_;
  std::vector<Work> work_;
  Pass pass_;
  std::vector<std::size_t> sampled_;  // of the pass, the works that get a guess
  PassResults results_;
  std::vector<std::byte> message_;
  std::vector<std::byte> incoming_;
  std::int64_t passes_ = 0;
  double seconds_ = 0;
};

}  // namespace sluice::stage
