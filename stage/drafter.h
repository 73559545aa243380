// Guesses of what a row will say next. The head puts them into the row's pass behind its last
// token, and the last stage samples after each as long as they are right. A result depends on the
// request alone, so guesses change how many passes an answer takes, and no token of it.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "stage/request.h"

namespace sluice::stage {

/// A row that may be guessed ahead, and the answer.
struct DraftRow {
  std::int32_t slot = 0;
  std::uint64_t start = 0;  // another number for each sequence that starts in a slot
  /// Of prompt and answer so far. Valid during the call, as is `sampling`, the request's.
  std::span<const std::int32_t> tokens;
  const Sampling* sampling = nullptr;
  std::span<std::int32_t> guesses;  // room for the most that are wanted, at least one
  std::int32_t count = 0;           // guesses that were made, the first ones of the room
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// Fills guesses and count of every row; a guess is a token of the model's vocabulary. The head's
  /// thread. What it throws ends the job.
  virtual void draft(std::span<DraftRow> rows) = 0;
  /// That all calls of draft() took; 0: nothing worth counting.
  virtual double seconds() const { return 0; }
};

/// Looks the row's last tokens up in its own prompt and answer, the longest of 3, 2 or 1 that are
/// there, and guesses what followed them the last time. It needs no model. Tokens may be alike:
/// what stood in brackets is then found again behind a blank. (Saxena, "Prompt Lookup Decoding",
/// 2023; Hugging Face's PromptLookupCandidateGenerator takes the first place, not the last.) Where
/// that place is near the end, the guesses go on with themselves.
class LookUpDrafter : public Drafter {
 public:
  /// `alike`: by token, which it is taken for; empty: each for itself.
  explicit LookUpDrafter(std::vector<std::int32_t> alike = {}) : alike_(std::move(alike)) {}
  void draft(std::span<DraftRow> rows) override;

 private:
  std::int32_t kind_of(std::int32_t token) const {
    return alike_.empty() ? token : alike_[static_cast<std::size_t>(token)];
  }
  std::size_t match_before(std::span<const std::int32_t> tokens, std::size_t end) const;
  std::size_t look_up(std::span<const std::int32_t> tokens) const;

  std::vector<std::int32_t> alike_;
};

}  // namespace sluice::stage
