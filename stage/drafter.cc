#include "stage/drafter.h"

#include <algorithm>
#include <cstddef>

namespace sluice::stage {

namespace {

constexpr std::size_t kLongest = 3;

}  // namespace

/// How many tokens before `end` are like the last ones, at most kLongest.
std::size_t LookUpDrafter::match_before(std::span<const std::int32_t> tokens,
                                        std::size_t end) const {
  std::size_t length = 0;
  while (length < std::min(kLongest, end) &&
         kind_of(tokens[end - 1 - length]) == kind_of(tokens[tokens.size() - 1 - length])) {
    ++length;
  }
  return length;
}

/// Behind the last place of the longest match; 0: there is none.
std::size_t LookUpDrafter::look_up(std::span<const std::int32_t> tokens) const {
  std::size_t best = 0;
  std::size_t place = 0;
  for (std::size_t end = tokens.size() - 1; end > 0 && best < kLongest; --end) {
    const std::size_t length = match_before(tokens, end);
    if (length <= best) continue;
    best = length;
    place = end;
  }
  return place;
}

void LookUpDrafter::draft(std::span<DraftRow> rows) {
  for (DraftRow& row : rows) {
    row.count = 0;
    const std::size_t place = look_up(row.tokens);
    if (place == 0) continue;
    for (std::size_t i = 0; i < row.guesses.size(); ++i) {
      const std::size_t from = place + i;
      row.guesses[i] =
          from < row.tokens.size() ? row.tokens[from] : row.guesses[from - row.tokens.size()];
    }
    row.count = static_cast<std::int32_t>(row.guesses.size());
  }
}

}  // namespace sluice::stage
