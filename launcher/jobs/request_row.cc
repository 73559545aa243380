#include "launcher/jobs/request_row.h"

#include <algorithm>

namespace sluice::launcher {

namespace {

/// Rows whose lengths are kept: a prediction looks at no more.
constexpr std::size_t kMostLookedAt = 100'000;

} // namespace

void add_to_scan(const RequestRow &row, JobScan &scan) {
  const auto tokens =
      static_cast<std::int32_t>(row.prompt.size()) + row.max_tokens;
  scan.longest_sequence = std::max(scan.longest_sequence, tokens);
  scan.usual_sequence = std::max(scan.usual_sequence, tokens);
  if (scan.looked_at.size() == kMostLookedAt)
    return;
  scan.looked_at.push_back(
      {static_cast<std::int32_t>(row.prompt.size()), row.max_tokens});
}

stage::Request to_request(const RequestRow &row, std::uint64_t id) {
  return {id, row.prompt, row.max_tokens, row.sampling,
          row.echo && row.wants_logprobs() ? 1 : 0};
}

} // namespace sluice::launcher
