#include "launcher/jobs/request_row.h"

#include <algorithm>

namespace sluice::launcher {

void add_to_scan(const RequestRow& row, JobScan& scan) {
  const auto prompt = static_cast<std::int32_t>(row.prompt.size());
  ++scan.rows;
  scan.prompt_tokens += prompt;
  scan.max_completion_tokens += row.max_tokens;
  scan.longest_prompt = std::max(scan.longest_prompt, prompt);
  scan.longest_sequence = std::max(scan.longest_sequence, prompt + row.max_tokens);
}

stage::Request to_request(const RequestRow& row, std::uint64_t id) {
  return {id, row.prompt, row.max_tokens, row.sampling, row.echo && row.wants_logprobs()};
}

}  // namespace sluice::launcher
