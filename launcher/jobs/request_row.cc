#include "launcher/jobs/request_row.h"

#include <algorithm>

namespace sluice::launcher {

namespace {

/// Rows whose lengths are kept: a prediction looks at no more.
constexpr std::size_t kMostLookedAt = 100'000;

}  // namespace

std::size_t parts_of(const RequestRow& row) { return std::max<std::size_t>(row.choices.size(), 1); }

std::int64_t longest_request(const RequestRow& row) {
  // The last token of a choice is only asked for.
  std::size_t behind = static_cast<std::size_t>(row.max_tokens);
  for (const Choice& choice : row.choices) behind = std::max(behind, choice.tokens.size() - 1);
  return static_cast<std::int64_t>(row.prompt.size() + behind);
}

void add_to_scan(const RequestRow& row, JobScan& scan) {
  const auto tokens = static_cast<std::int32_t>(longest_request(row));
  scan.longest_sequence = std::max(scan.longest_sequence, tokens);
  scan.usual_sequence = std::max(scan.usual_sequence, tokens);
  if (scan.looked_at.size() == kMostLookedAt) return;
  // Requests of a row share its prompt, so they are one sequence to a prediction.
  std::size_t prompt = row.prompt.size();
  for (const Choice& choice : row.choices) prompt += choice.tokens.size();
  scan.looked_at.push_back({static_cast<std::int32_t>(prompt), row.max_tokens});
}

stage::Request to_request(const RequestRow& row, std::uint64_t id, std::size_t part) {
  stage::Request request{id, row.prompt, row.max_tokens, row.sampling, 0};
  if (!row.choices.empty()) {
    const std::vector<std::int32_t>& tokens = row.choices[part].tokens;
    request.scores_from = static_cast<std::int32_t>(row.prompt.size());
    request.prompt.insert(request.prompt.end(), tokens.begin(), tokens.end());
  } else if (row.echo && row.wants_logprobs()) {
    request.scores_from = 1;
  }
  return request;
}

}  // namespace sluice::launcher
