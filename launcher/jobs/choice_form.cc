#include "launcher/jobs/choice_form.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "launcher/jobs/score_form.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

std::string token_name(const Tokenizer& tokenizer, std::int32_t token) {
  const std::string& bytes = tokenizer.token_bytes(token);
  if (bytes.empty()) return fmt::format("token_id:{}", token);
  if (is_valid_utf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

/// The n likeliest and the token itself, by name; of equal names the likelier stays.
Json top_of(const Tokenizer& tokenizer, const ScoredToken& result) {
  Json top = Json::object();
  for (const stage::Candidate& candidate : result.top) {
    const std::string name = token_name(tokenizer, candidate.token);
    if (!top.contains(name)) top[name] = finite_logprob(candidate.logprob);
  }
  top[token_name(tokenizer, result.token)] = finite_logprob(result.logprob);
  return top;
}

/// OpenAI's form of one token in a chat completion.
Json chat_token(const Tokenizer& tokenizer, std::int32_t token, float logprob) {
  Json bytes = Json::array();
  for (const char byte : tokenizer.token_bytes(token)) {
    bytes.push_back(static_cast<std::int64_t>(static_cast<unsigned char>(byte)));
  }
  return {{"token", token_name(tokenizer, token)},
          {"logprob", finite_logprob(logprob)},
          {"bytes", std::move(bytes)}};
}

Json chat_logprobs(const Answer& answer) {
  return answer.row().wants_logprobs() ? LogprobParts(answer).take_chat() : Json();
}

Json chat_choice(const Answer& answer, std::size_t index) {
  return {{"index", index},
          {"message", {{"role", "assistant"}, {"content", answer.text()}, {"refusal", nullptr}}},
          {"logprobs", chat_logprobs(answer)},
          {"finish_reason", name_of(answer.finish())}};
}

Json text_choice(const Answer& answer, std::size_t index) {
  return {{"text", whole_text(answer)},
          {"index", index},
          {"logprobs", text_logprobs(answer)},
          {"finish_reason", name_of(answer.finish())}};
}

}  // namespace

const char* name_of(Finish finish) { return finish == Finish::length ? "length" : "stop"; }

std::string whole_text(const Answer& answer) {
  return answer.row().echo ? answer.row().prompt_text + answer.text() : answer.text();
}

std::vector<const Answer*> chosen_of(std::span<const Answer> answers) {
  std::vector<const Answer*> chosen;
  for (const Answer& one : answers) chosen.push_back(&one);
  const auto n = static_cast<std::size_t>(answers.front().row().n);
  if (chosen.size() <= n) return chosen;
  std::ranges::stable_sort(
      chosen, [](const Answer* a, const Answer* b) { return a->logprob_sum() > b->logprob_sum(); });
  chosen.resize(n);
  return chosen;
}

std::size_t completion_tokens(std::span<const Answer> answers) {
  std::size_t tokens = 0;
  for (const Answer& answer : answers) tokens += answer.tokens().size();
  return tokens;
}

Json choice_of(const Answer& answer, std::size_t index) {
  return answer.row().form == RowForm::chat ? chat_choice(answer, index)
                                            : text_choice(answer, index);
}

Json text_logprobs(const Answer& answer) {
  if (!answer.row().wants_logprobs()) return nullptr;
  return LogprobParts(answer).take_text(count_characters(whole_text(answer)), true);
}

std::size_t TokenOffsets::next(std::string_view bytes) {
  const std::size_t offset = at_;
  held_.append(bytes);
  at_ += count_characters(take_whole(held_));
  return offset;
}

std::size_t LogprobParts::echoed() const {
  return answer_->row().echo ? 1 + answer_->prompt_results().size() : 0;
}

const ScoredToken* LogprobParts::scored_at(std::size_t number) const {
  const std::size_t before = echoed();
  if (number >= before) return &answer_->results()[number - before];
  return number == 0 ? nullptr : &answer_->prompt_results()[number - 1];
}

std::int32_t LogprobParts::token_at(std::size_t number) const {
  const ScoredToken* scored = scored_at(number);
  return scored == nullptr ? answer_->row().prompt.front() : scored->token;
}

/// False: there is no further token yet.
bool LogprobParts::read_next() {
  const RequestRow& row = answer_->row();
  const Tokenizer& tokenizer = answer_->tokenizer();
  const std::size_t before = echoed();
  if (given_ >= before + answer_->results().size()) return false;
  if (given_ == before) {
    offsets_ = TokenOffsets(row.echo ? count_characters(row.prompt_text) : 0);
  }
  const std::int32_t token = token_at(given_);
  // Not shown in the text: BOS before an echoed prompt, special tokens that the answer leaves out.
  const bool hidden = given_ < before ? given_ == 0 && token == tokenizer.bos()
                                      : row.skip_special && tokenizer.is_special(token);
  next_ = offsets_.next(hidden ? "" : tokenizer.token_bytes(token));
  return true;
}

Json LogprobParts::take_text(std::size_t characters, bool all) {
  const Tokenizer& tokenizer = answer_->tokenizer();
  Json tokens = Json::array();
  Json logprobs = Json::array();
  Json tops = Json::array();
  Json offsets = Json::array();
  while ((next_ || read_next()) && (all || *next_ < characters)) {
    const ScoredToken* scored = scored_at(given_);
    tokens.push_back(token_name(tokenizer, token_at(given_)));
    logprobs.push_back(scored == nullptr ? Json() : finite_logprob(scored->logprob));
    tops.push_back(scored == nullptr ? Json() : top_of(tokenizer, *scored));
    offsets.push_back(std::min(*next_, characters));  // a stop string may have cut the text
    next_.reset();
    ++given_;
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json LogprobParts::take_chat() {
  const Tokenizer& tokenizer = answer_->tokenizer();
  Json content = Json::array();
  for (; given_ < answer_->results().size(); ++given_) {
    const ScoredToken& result = answer_->results()[given_];
    Json top = Json::array();
    for (const stage::Candidate& one : result.top) {
      top.push_back(chat_token(tokenizer, one.token, one.logprob));
    }
    Json entry = chat_token(tokenizer, result.token, result.logprob);
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

}  // namespace sluice::launcher
