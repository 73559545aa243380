#include "launcher/jobs/prompt_job.h"

#include <ostream>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/jobs/request_parser.h"

namespace sluice::launcher {

PromptJob::PromptJob(const Tokenizer& tokenizer, RequestRow row, std::int32_t eos,
                     std::ostream& out)
    : row_(std::move(row)), answer_(tokenizer, row_, eos < 0 ? tokenizer.eos() : eos), out_(out) {}

JobScan PromptJob::scan() const {
  JobScan scan;
  scan.rows = 1;
  add_to_scan(row_, scan);
  return scan;
}

stage::Next PromptJob::next(stage::Request& request) {
  if (std::exchange(handed_out_, true)) return stage::Next::no_more;
  request = to_request(row_, 0);
  return stage::Next::request;
}

void PromptJob::on_prompt_token(std::uint64_t, std::int32_t, const stage::TokenResult& result) {
  answer_.add_prompt_token(result);
}

bool PromptJob::on_token(std::uint64_t, const stage::TokenResult& result) {
  if (!answer_.add(result)) return false;
  print();
  return true;
}

void PromptJob::on_prompt_done(std::uint64_t) {
  answer_.finish_without_tokens();
  print();
}

void PromptJob::on_failed(std::uint64_t, const std::string& reason) { failure_ = reason; }

void PromptJob::print() {
  if (row_.echo) out_ << row_.prompt_text;
  out_ << answer_.text() << '\n' << std::flush;
  if (!out_) throw IoError("cannot print the answer: standard output takes no more");
}

JobScan DummyJob::scan() const {
  JobScan scan;
  scan.rows = prompts_.count;
  scan.longest_sequence = prompts_.prompt_len + prompts_.gen_len;
  scan.looked_at.push_back({prompts_.prompt_len, prompts_.gen_len});
  return scan;
}

stage::Next DummyJob::next(stage::Request& request) {
  if (next_ == prompts_.count) return stage::Next::no_more;
  const auto ordinary = static_cast<std::uint64_t>(prompts_.vocabulary - kFirstOrdinaryToken);
  const auto number = static_cast<std::uint64_t>(next_++);
  const auto token_of = [&](std::uint64_t value) {
    return static_cast<std::int32_t>(value % ordinary) + kFirstOrdinaryToken;
  };
  request = stage::Request();
  request.id = number;
  request.max_tokens = prompts_.gen_len;
  request.sampling.seed = default_seed(prompts_.seed, default_custom_id(next_));
  // The first token counts the prompts, so that no two are alike; the rest is by chance.
  request.prompt.push_back(token_of(default_seed(prompts_.seed, "first") % ordinary + number));
  for (std::int32_t i = 1; i < prompts_.prompt_len; ++i) {
    const std::uint64_t place = number << 32 | static_cast<std::uint32_t>(i);
    request.prompt.push_back(token_of(default_seed(place ^ prompts_.seed, "token")));
  }
  return stage::Next::request;
}

bool DummyJob::on_token(std::uint64_t id, const stage::TokenResult&) {
  if (++tokens_[id] < prompts_.gen_len) return false;
  tokens_.erase(id);
  ++answered_;
  return true;
}

void DummyJob::on_failed(std::uint64_t id, const std::string&) {
  tokens_.erase(id);
  ++failed_;
}

}  // namespace sluice::launcher
