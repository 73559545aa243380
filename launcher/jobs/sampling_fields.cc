#include "launcher/jobs/sampling_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/jobs/chat_fields.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMaxStopStrings = 16;
constexpr std::size_t kMaxStopBytes = 4096;
constexpr std::size_t kMaxStopTokens = 256;
constexpr std::int64_t kMostAnswers = 128;

void refuse_foreign(const RowFields& fields) {
  const auto is_false = [](const Json& value) { return value == false; };
  const auto is_empty = [](const Json& value) { return value.empty() || value == ""; };
  fields.require("stream", is_false);
  fields.require("suffix", is_empty);
}

void read_stop(const RowFields& fields, RequestRow& row) {
  const Json* value = fields.find("stop");
  if (value == nullptr) return;
  const Json list = value->is_string() ? Json::array({*value}) : *value;
  if (!list.is_array()) RowFields::refuse("stop", *value, "a text or a list of texts");
  row.stop.clear();
  for (const Json& one : list) {
    if (!one.is_string() || one.text().empty() || one.text().size() > kMaxStopBytes) {
      RowFields::refuse("stop", one, fmt::format("a text of 1 to {} bytes", kMaxStopBytes));
    }
    row.stop.push_back(one.text());
  }
  if (row.stop.size() > kMaxStopStrings) {
    throw RowProblem{
        fmt::format("stop has {} texts; it may have {}", row.stop.size(), kMaxStopStrings), "stop"};
  }
}

void read_stop_tokens(const RowFields& fields, const ModelLimits& limits, RequestRow& row) {
  auto ids = fields.ids("stop_token_ids", limits.vocabulary);
  if (!ids) return;
  row.stop_token_ids = std::move(*ids);
  if (row.stop_token_ids.size() > kMaxStopTokens) {
    throw RowProblem{fmt::format("stop_token_ids has {} ids; it may have {}",
                                 row.stop_token_ids.size(), kMaxStopTokens),
                     "stop_token_ids"};
  }
}

/// The id that a key of logit_bias writes; -1: none of the model's.
std::int32_t id_of(std::string_view key, std::int32_t vocabulary) {
  std::int32_t id = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  const bool whole = error == std::errc() && end == key.data() + key.size();
  return whole && id >= 0 && id < vocabulary && fmt::format("{}", id) == key ? id : -1;
}

void read_logit_bias(const RowFields& fields, std::int32_t vocabulary, RequestRow& row) {
  constexpr double kMost = 100.0;  // OpenAI's
  const Json* value = fields.find("logit_bias");
  if (value == nullptr || value->empty() || *value == "") return;
  if (!value->is_object()) {
    RowFields::refuse("logit_bias", *value, "an object of token ids and biases");
  }
  for (const auto& [key, bias] : value->items()) {
    const std::int32_t id = id_of(key, vocabulary);
    if (id < 0) {
      throw RowProblem{
          fmt::format("logit_bias has the key {}; token ids of this model are integers "
                      "from 0 to {}, as texts",
                      shown(Json(key)), vocabulary - 1),
          "logit_bias"};
    }
    if (!bias.is_number() || !(bias.number() >= -kMost && bias.number() <= kMost)) {
      throw RowProblem{fmt::format("logit_bias[\"{}\"] is {}; it must be a number from {} to {}",
                                   id, shown(bias), -kMost, kMost),
                       "logit_bias"};
    }
    row.rules.biases.push_back({id, static_cast<float>(bias.number())});
  }
}

/// The token sequences that write a text: as it is, and behind a blank, as words are within a text.
void ban_text(const std::string& text, const Tokenizer& tokenizer, RequestRow& row) {
  std::string word = text;
  word.erase(0, std::min(word.find_first_not_of(' '), word.size() - 1));
  for (const std::string& written : {word, " " + word}) {
    std::vector<std::int32_t> ids;
    try {
      ids = tokenizer.encode(written, false);
    } catch (const InputError& problem) {
      throw RowProblem{problem.what(), "bad_words"};
    }
    auto& banned = row.rules.banned;
    if (!ids.empty() && std::ranges::count(banned, ids) == 0) banned.push_back(std::move(ids));
  }
}

void read_bad_words(const RowFields& fields, const Tokenizer& tokenizer, std::int32_t vocabulary,
                    RequestRow& row) {
  const Json* value = fields.find("bad_words");
  if (value == nullptr) return;
  if (!value->is_array()) {
    RowFields::refuse("bad_words", *value, "a list of texts, or of lists of token ids");
  }
  for (const Json& word : *value) {
    if (word.is_string() && !word.text().empty()) {
      ban_text(word.text(), tokenizer, row);
      continue;
    }
    if (!word.is_array() || word.empty()) {
      RowFields::refuse("bad_words", word, "texts, or lists of token ids, none empty");
    }
    const Json object = {{"bad_words", word}};
    row.rules.banned.push_back(*RowFields(object).ids("bad_words", vocabulary));
  }
}

/// A whole number that takes no sign.
void read_count(const RowFields& fields, const char* name, std::int32_t& count) {
  if (const auto given = fields.integer(name, 0, INT32_MAX)) {
    count = static_cast<std::int32_t>(*given);
  }
}

void read_numbers(const RowFields& fields, stage::Sampling& sampling) {
  constexpr float kMost = 100.0F;
  constexpr float kLeastPenalty = 0.01F;  // logits divided by less may overflow
  constexpr float kMostOpenAi = 2.0F;
  const auto read = [&](const char* name, float low, float high, bool without_low, float& number) {
    number = fields.number(name, low, high, without_low).value_or(number);
  };
  read("temperature", 0, kMost, false, sampling.temperature);
  read("top_p", 0, 1, true, sampling.top_p);
  read("min_p", 0, 1, false, sampling.min_p);
  read("repetition_penalty", kLeastPenalty, kMost, false, sampling.repetition_penalty);
  read("frequency_penalty", -kMostOpenAi, kMostOpenAi, false, sampling.frequency_penalty);
  read("presence_penalty", -kMostOpenAi, kMostOpenAi, false, sampling.presence_penalty);
  read_count(fields, "top_k", sampling.top_k);
  read_count(fields, "min_tokens", sampling.min_tokens);
  read_count(fields, "no_repeat_ngram_size", sampling.no_repeat_ngram);
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) {
    sampling.seed = static_cast<std::uint64_t>(*seed);
  }
}

void read_counts_of_answers(const RowFields& fields, RequestRow& row) {
  const auto n = fields.integer("n", 1, kMostAnswers);
  row.n = static_cast<std::int32_t>(n.value_or(1));
  const auto best_of = fields.integer("best_of", 1, kMostAnswers);
  row.best_of = static_cast<std::int32_t>(best_of.value_or(row.n));
  if (row.best_of < row.n) {
    throw RowProblem{fmt::format("best_of is {}, but n is {}; best_of answers are made, and n of "
                                 "them given back",
                                 row.best_of, row.n),
                     "best_of"};
  }
}

EarlyStopping early_stopping_of(const RowFields& fields) {
  const Json* value = fields.find("early_stopping");
  if (value == nullptr || *value == false) return EarlyStopping::no;
  if (*value == true) return EarlyStopping::yes;
  if (*value == "never") return EarlyStopping::never;
  RowFields::refuse("early_stopping", *value, "true, false or \"never\"");
}

/// A beam search compares sequences by their probability alone.
void check_search(const RequestRow& row) {
  const auto refuse = [](const char* field, const char* why) {
    throw RowProblem{fmt::format("{} cannot be had with num_beams: {}", field, why), field};
  };
  if (row.sampling.temperature > 0.0F) refuse("temperature", "a beam search does not sample");
  if (row.best_of > row.n) refuse("best_of", "the search itself finds the likeliest");
  if (row.wants_logprobs()) refuse("logprobs", "a record has a search's scores instead");
  if (row.n > row.beams.beams) {
    throw RowProblem{fmt::format("n is {}, but a search with num_beams {} has no more answers",
                                 row.n, row.beams.beams),
                     "n"};
  }
}

void read_beams(const RowFields& fields, RequestRow& row) {
  constexpr float kMostPenalty = 100.0F;
  const auto beams = fields.integer("num_beams", 1, stage::kMaxLogprobs / 2);
  row.beams.beams = static_cast<std::int32_t>(beams.value_or(1));
  row.beams.length_penalty =
      fields.number("length_penalty", -kMostPenalty, kMostPenalty, false).value_or(1.0F);
  row.beams.early_stopping = early_stopping_of(fields);
  if (row.beams.beams > 1) check_search(row);
}

}  // namespace

void read_sampling(const RowFields& fields, const Tokenizer& tokenizer, const ModelLimits& limits,
                   RequestRow& row) {
  refuse_foreign(fields);
  read_numbers(fields, row.sampling);
  if (row.form == RowForm::chat) {
    read_chat_logprobs(fields, row);
  } else if (const auto logprobs = fields.integer("logprobs", 0, stage::kMaxLogprobs)) {
    row.sampling.logprobs = static_cast<std::int32_t>(*logprobs);
  }
  row.echo = fields.boolean("echo").value_or(row.echo);
  row.ignore_eos = fields.boolean("ignore_eos").value_or(row.ignore_eos);
  row.skip_special = fields.boolean("skip_special_tokens").value_or(row.skip_special);
  read_stop(fields, row);
  read_stop_tokens(fields, limits, row);
  read_logit_bias(fields, limits.vocabulary, row);
  read_bad_words(fields, tokenizer, limits.vocabulary, row);
  read_counts_of_answers(fields, row);
  read_beams(fields, row);
}

void check_min_tokens(const RowFields& fields, const RequestRow& row) {
  const auto given = fields.integer("min_tokens", 0, INT32_MAX);
  if (!given || *given <= row.max_tokens) return;
  throw RowProblem{fmt::format("min_tokens is {}, but the answer may have {} tokens; make it "
                               "smaller, or max_tokens larger",
                               *given, row.max_tokens),
                   "min_tokens"};
}

void finish_rules(std::int32_t eos, RequestRow& row) {
  stage::TokenRules& rules = row.rules;
  if (std::ranges::count(rules.banned, std::vector<std::int32_t>{eos}) > 0) {
    throw RowProblem{fmt::format("bad_words has the token {}, which ends answers; ignore_eos lets "
                                 "answers go on behind it",
                                 eos),
                     "bad_words"};
  }
  if (row.sampling.min_tokens > 0) {
    rules.ends = row.stop_token_ids;
    if (!row.ignore_eos && eos >= 0) rules.ends.push_back(eos);
  }
  row.beams.ends = static_cast<std::int32_t>(
                       std::set(row.stop_token_ids.begin(), row.stop_token_ids.end()).size()) +
                   (!row.ignore_eos && std::ranges::count(row.stop_token_ids, eos) == 0 ? 1 : 0);
  if (row.beams.beams > 1 && row.beams.candidates() > stage::kMaxLogprobs) {
    throw RowProblem{
        fmt::format("num_beams is {}; with {} tokens that end an answer it may be {}",
                    row.beams.beams, row.beams.ends, stage::kMaxLogprobs / (1 + row.beams.ends)),
        "num_beams"};
  }
  const std::size_t words = encode(rules).size();
  if (words <= stage::kMaxRuleWords) return;
  const bool by_bias = 2 * rules.biases.size() > words / 2;
  throw RowProblem{fmt::format("logit_bias, bad_words and stop_token_ids come to {} numbers "
                               "together; a row may have {}",
                               words, stage::kMaxRuleWords),
                   by_bias ? "logit_bias" : "bad_words"};
}

}  // namespace sluice::launcher
