#include "launcher/jobs/row_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace sluice::launcher {
namespace {

/// Ids that a row has for its requests: more than it can have choices.
constexpr std::uint64_t kIdsOfRow = std::uint64_t{1} << 20;

}  // namespace

RowWork::RowWork(const Tokenizer& tokenizer, RequestRow given, std::uint64_t error,
                 std::int32_t eos)
    : row(std::move(given)), error_before(error), first_id(0) {
  const std::size_t parts = parts_of(row);
  answers.reserve(parts);
  for (std::size_t i = 0; i < parts; ++i) answers.emplace_back(tokenizer, row, eos);
  numbers.resize(parts);
  known = parts;
  if (row.beams.beams > 1) search = std::make_unique<BeamWork>(tokenizer, row, eos);
}

RowWork& RowWorks::begin(const Tokenizer& tokenizer, RequestRow row, std::uint64_t error_before,
                         std::int32_t eos) {
  const std::uint64_t number = next_row_++;
  RowWork& work =
      works_.try_emplace(number, tokenizer, std::move(row), error_before, eos).first->second;
  work.first_id = number * kIdsOfRow;
  return work;
}

RowWorks::Part RowWorks::part_of(std::uint64_t id) {
  const auto found = works_.find(id / kIdsOfRow);
  if (found == works_.end() || id % kIdsOfRow >= found->second.begun) {
    throw std::logic_error(fmt::format("request {} is not under way", id));
  }
  return {found->second, static_cast<std::size_t>(id % kIdsOfRow)};
}

bool RowWorks::may_grow() const {
  return std::ranges::any_of(works_, [](const auto& one) { return one.second.search != nullptr; });
}

void RowWorks::erase(const RowWork& work) { works_.erase(work.first_id / kIdsOfRow); }

}  // namespace sluice::launcher
