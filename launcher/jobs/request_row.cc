#include "launcher/jobs/request_row.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/jobs/request_parser.h"

namespace sluice::launcher {

namespace {

/// Rows whose lengths are kept: a prediction looks at no more.
constexpr std::size_t kMostLookedAt = 100'000;

}  // namespace

std::size_t parts_of(const RequestRow& row) {
  if (!row.choices.empty()) return row.choices.size();
  return row.beams.beams > 1 ? 1 : static_cast<std::size_t>(row.best_of);
}

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
  scan.most_rule_words =
      std::max(scan.most_rule_words, static_cast<std::int32_t>(encode(row.rules).size()));
  scan.grammars = scan.grammars || row.grammar;
  scan.features = scan.features || row.embed != stage::Embed::none;
  if (scan.looked_at.size() >= kMostLookedAt) return;
  ++scan.rows_looked_at;
  std::size_t shared = 0;
  if (row.adapter == scan.last_adapter) {
    const auto end = std::ranges::mismatch(row.prompt, scan.last_prompt).in1;
    shared = static_cast<std::size_t>(end - row.prompt.begin());
  }
  for (std::size_t part = 0; part < parts_of(row); ++part) {
    // The last token of a choice is only asked for.
    const std::size_t choice = row.choices.empty() ? 0 : row.choices[part].tokens.size() - 1;
    scan.looked_at.push_back({static_cast<std::int32_t>(row.prompt.size() + choice), row.max_tokens,
                              static_cast<std::int32_t>(shared)});
    shared = row.prompt.size();
  }
  scan.last_prompt = row.prompt;
  scan.last_adapter = row.adapter;
}

stage::Request to_request(const RequestRow& row, std::uint64_t id, std::size_t part) {
  stage::Request request{id, row.prompt, row.max_tokens, row.sampling, 0, encode(row.rules)};
  request.grammar = row.grammar;
  request.embed = row.embed;
  request.adapter = row.adapter;
  request.sampling.answer_begin = static_cast<std::int32_t>(row.prompt.size());
  if (row.needs_logprobs()) request.sampling.logprobs = std::max(row.sampling.logprobs, 0);
  if (part > 0) request.sampling.seed = default_seed(row.sampling.seed, fmt::format("{}", part));
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
