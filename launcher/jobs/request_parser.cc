#include "launcher/jobs/request_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/config/nearest_name.h"
#include "launcher/jobs/chat_fields.h"
#include "launcher/jobs/choice_fields.h"
#include "launcher/jobs/prompt_fields.h"
#include "launcher/jobs/readable_id.h"
#include "launcher/jobs/row_fields.h"
#include "launcher/jobs/sampling_fields.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMostWarnings = 100;  // of names: an input may have any number of them

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kChatCompletions = "/v1/chat/completions";

/// Names the row after its custom_id where that can be seen though the line is no JSON.
Json parse_row(std::string_view line, RequestRow& row) {
  try {
    return Json::parse(line);
  } catch (const JsonError& problem) {
    if (auto id = readable_custom_id(line)) {
      row.custom_id = std::move(*id);
      row.naming = Naming::given;
    }
    switch (problem.kind()) {
      case JsonError::Kind::duplicate:
        throw RowProblem{fmt::format("the field {} stands in the row twice", shown(problem.key())),
                         problem.key()};
      case JsonError::Kind::depth:
        throw RowProblem{"the row is nested too deeply", ""};
      default:
        throw RowProblem{fmt::format("the row is no JSON: {}", problem.what()), ""};
    }
  }
}

/// `given`: the row's own max_tokens. `field`: what the prompt came from.
void fit_to_positions(std::optional<std::int64_t> given, const ModelLimits& limits,
                      const char* field, RequestRow& row) {
  const auto prompt = static_cast<std::int64_t>(row.prompt.size());
  const std::int64_t left = limits.positions - prompt;
  if (left < 0 || (left == 0 && !given && row.max_tokens > 0)) {
    throw RowProblem{
        fmt::format("the prompt has {} tokens, which leaves no room for an answer: the "
                    "model has {} positions; shorten the prompt",
                    prompt, limits.positions),
        field, kContextLength};
  }
  if (given && *given > left) {
    throw RowProblem{
        fmt::format("the prompt has {} tokens and max_tokens is {}, together {}, but the "
                    "model has {} positions; shorten one of them",
                    prompt, *given, prompt + *given, limits.positions),
        "max_tokens", kContextLength};
  }
  row.max_tokens = static_cast<std::int32_t>(std::min(given.value_or(row.max_tokens), left));
}

std::optional<std::int64_t> max_tokens_of(const RowFields& fields) {
  const auto newer = has_messages(fields.object())
                         ? fields.integer("max_completion_tokens", 0, INT32_MAX)
                         : std::nullopt;
  const auto given = fields.integer("max_tokens", 0, INT32_MAX);
  return newer ? newer : given;
}

/// "lora": the name of one of the run's adapters.
void read_adapter(const RowFields& fields, const ModelLimits& limits, RequestRow& row) {
  const auto name = fields.text("lora");
  if (!name) return;
  const auto found = std::ranges::find(limits.adapters, *name, &KnownAdapter::name);
  if (found == limits.adapters.end()) {
    std::vector<std::string> names;
    for (const KnownAdapter& one : limits.adapters) names.push_back(one.name);
    throw RowProblem{fmt::format("lora is {}, but no --lora NAME=DIR gave the run an adapter of "
                                 "that name{}",
                                 shown(*name), suggestion(*name, names)),
                     "lora"};
  }
  row.adapter = static_cast<std::int32_t>(found - limits.adapters.begin());
  row.adapter_digest = found->digest;
}

/// The request itself: the short form's row, or the batch form's body.
void read_request(const RowFields& fields, const Tokenizer& tokenizer, const ChatTemplate* chat,
                  const ModelLimits& limits, RequestRow& row) {
  read_adapter(fields, limits, row);
  read_sampling(fields, tokenizer, limits, row);
  if (has_embed(fields.object())) return read_embedded(fields, tokenizer, chat, limits, row);
  if (has_choices(fields.object())) return read_scored(fields, tokenizer, chat, limits, row);
  const auto max_tokens = max_tokens_of(fields);
  const bool is_chat = is_conversation(fields, row.form);
  if (is_chat) {
    read_messages(fields, tokenizer, chat, limits, row);
  } else {
    read_prompt(fields, tokenizer, limits, row);
  }
  fit_to_positions(max_tokens, limits, is_chat ? "messages" : "prompt", row);
  check_min_tokens(fields, row);
}

/// Throws for the first field that is not ours.
void refuse_unknown(const std::vector<UnknownField>& fields) {
  if (fields.empty()) return;
  throw RowProblem{fmt::format("the row has an unknown field {}, which --strict refuses{}",
                               shown(fields.front().name), meant_by(fields.front())),
                   fields.front().name};
}

RowFailure failure_of(const RequestRow& row, const RowProblem& problem) {
  RowFailure failure;
  failure.line = row.line;
  failure.custom_id = row.custom_id;
  failure.naming = row.naming;
  failure.form = row.form;
  failure.message =
      row.line > 0 ? fmt::format("line {}: {}", row.line, problem.message) : problem.message;
  failure.param = problem.param;
  failure.code = problem.code;
  failure.kept_fields = row.kept_fields;
  return failure;
}

/// The row that `read` completes, or why it has failed.
template <class Read>
ParsedRow row_or_failure(RequestRow& row, const Read& read) {
  try {
    read();
    return std::move(row);
  } catch (const RowProblem& problem) {
    return failure_of(row, problem);
  } catch (const InputError& problem) {  // of the tokenizer
    return failure_of(row, {problem.what(), "prompt"});
  }
}

const Json& batch_body(const Json& object) {
  const RowFields fields(object);
  const std::string method = fields.text("method").value_or("POST");
  const std::string url = fields.text("url").value_or("");
  if (method != "POST") {
    throw RowProblem{fmt::format("method is {}; it must be \"POST\"", shown(method)), "method"};
  }
  if (url != kCompletions && url != kChatCompletions) {
    throw RowProblem{fmt::format("url is {}; only \"{}\" and \"{}\" are answered", shown(url),
                                 kCompletions, kChatCompletions),
                     "url"};
  }
  const Json* body = fields.find("body");
  if (body == nullptr || !body->is_object()) {
    throw RowProblem{"the row has no body, or one that is no JSON object", "body"};
  }
  return *body;
}

/// Of prompt and longest choice.
std::size_t translated_bytes(const RowTranslation& translate, const Json& object) {
  try {
    const Json row = translate(object);
    std::size_t longest = 0;
    for (const Json& choice : row.member("choices")) {
      longest = std::max(longest, choice.text().size());
    }
    return row.at("prompt").text().size() + longest;
  } catch (const RowProblem&) {
    return 0;  // it will be refused
  }
}

RowForm form_of(const Json& object) {
  const bool batch = object.contains("body") || object.contains("url") || object.contains("method");
  if (!batch) return RowForm::plain;
  return object.member("url") == kChatCompletions ? RowForm::chat : RowForm::batch;
}

}  // namespace

std::uint64_t default_seed(std::uint64_t run_seed, std::string_view custom_id) {
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (const char byte : custom_id)
    hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211U;
  // SplitMix64's finish, so that seeds 0, 1, 2 ... of a run differ in every bit.
  std::uint64_t mixed = hash + (run_seed + 1) * 0x9E3779B97F4A7C15U;
  mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9U;
  mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBU;
  return mixed ^ mixed >> 31;
}

std::string default_custom_id(std::int64_t line) { return fmt::format("row-{}", line); }

RequestParser::RequestParser(const Tokenizer& tokenizer, GenerationDefaults defaults,
                             ModelLimits limits, const ChatTemplate* chat, UnknownFieldRule rule,
                             RowTranslation translate)
    : tokenizer_(tokenizer),
      chat_(chat),
      rule_(rule),
      translate_(std::move(translate)),
      defaults_(std::move(defaults)),
      limits_(limits),
      grammars_(std::make_shared<GrammarCache>()) {
  for (std::int32_t id = 0; id < tokenizer.table_size(); ++id) {
    limits_.longest_token_bytes =
        std::max(limits_.longest_token_bytes, tokenizer.token_bytes(id).size());
  }
}

RequestRow RequestParser::with_defaults(std::int64_t number) const {
  RequestRow row;
  row.line = number;
  row.custom_id = default_custom_id(number);
  row.naming = Naming::made_up;
  row.max_tokens = defaults_.max_new_tokens;
  row.sampling = defaults_.sampling;
  row.stop = defaults_.stop;
  row.stop_token_ids = defaults_.stop_token_ids;
  row.ignore_eos = defaults_.ignore_eos;
  row.skip_special = defaults_.skip_special_tokens;
  row.echo = defaults_.echo;
  return row;
}

void RequestParser::finish(RequestRow& row) const {
  if (!row.ignore_eos) {
    row.stop_token_ids.insert(row.stop_token_ids.end(), limits_.further_eos.begin(),
                              limits_.further_eos.end());
  }
  finish_rules(eos(), row);
}

void RequestParser::warn(std::int64_t number, const UnknownField& field) {
  const bool kept = rule_ == UnknownFieldRule::keep;
  if (warned_.size() > kMostWarnings || !warned_.insert(field.name).second) return;
  if (warned_.size() > kMostWarnings) {
    if (!kept) warnings_.emplace_back("the rows have more unknown fields than are named here");
    return;
  }
  const std::string meant = meant_by(field);
  if (kept && meant.empty()) return;
  const std::string where = number > 0 ? fmt::format(" (first on line {})", number) : "";
  warnings_.push_back(fmt::format("the unknown field {}{} is {}{}", shown(field.name), where,
                                  kept ? "only given back" : "ignored", meant));
}

ParsedRow RequestParser::settle(RowDraft draft) {
  std::visit(
      [&](auto& row) {
        if (!draft.has_form) row.form = last_form_;
        last_form_ = row.form;
        for (const UnknownField& field : draft.unknown_fields) warn(row.line, field);
      },
      draft.row);
  return std::move(draft.row);
}

RowDraft RequestParser::draft_json(std::string_view line, std::int64_t number,
                                   const IsAnswered& is_answered) const {
  RowDraft draft;
  RequestRow row = with_defaults(number);
  draft.row = row_or_failure(row, [&] {
    Json object = parse_row(line, row);
    if (!object.is_object()) throw RowProblem{"the row is no JSON object", ""};
    if (!translates()) row.form = form_of(object);
    draft.has_form = true;
    if (auto id = RowFields(object).text("custom_id")) {
      row.custom_id = std::move(*id);
      row.naming = Naming::given;
    }
    draft.left_out = is_answered && is_answered(row);
    if (!draft.left_out) {
      if (translates()) object = translate_(object);
      const Json& request = row.form == RowForm::plain ? object : batch_body(object);
      row.sampling.seed = default_seed(defaults_.sampling.seed, row.custom_id);
      auto unknown = unknown_fields(object, row.form);
      if (rule_ == UnknownFieldRule::refuse) refuse_unknown(unknown);
      if (rule_ == UnknownFieldRule::keep) row.kept_fields = kept_fields(object, row.form);
      draft.unknown_fields = std::move(unknown);
      read_body(request, row);
    } else {
      finish(row);
    }
  });
  return draft;
}

void RequestParser::read_body(const Json& request, RequestRow& row) const {
  read_request(RowFields(request), tokenizer_, chat_, limits_, row);
  finish(row);
  read_grammar(RowFields(request), tokenizer_, eos(), *grammars_, row);
}

RowDraft RequestParser::draft_body(const Json& body, RowForm form, std::string id) const {
  RowDraft draft;
  draft.has_form = true;
  RequestRow row = with_defaults(0);
  row.form = form;
  row.custom_id = std::move(id);
  row.naming = Naming::given;
  row.sampling.seed = default_seed(defaults_.sampling.seed, row.custom_id);
  draft.row = row_or_failure(row, [&] {
    draft.unknown_fields = unknown_fields_of_body(body);
    if (rule_ == UnknownFieldRule::refuse) refuse_unknown(draft.unknown_fields);
    read_body(body, row);
  });
  return draft;
}

std::size_t RequestParser::prompt_bytes(std::string_view line) const {
  const Json object = Json::parse_or_null(line);
  if (translates()) return translated_bytes(translate_, object);
  const Json& body = object.member("body");
  const Json& request = body.is_object() ? body : object;
  if (chat_ == nullptr || !has_messages(request)) return line.size();
  try {
    return chat_text(RowFields(request), chat_, RowForm::chat).size();
  } catch (const RowProblem&) {
    return 0;  // it will be refused
  }
}

RowDraft RequestParser::draft_text(std::string_view prompt, std::int64_t number,
                                   const IsAnswered& is_answered) const {
  RowDraft draft;
  draft.has_form = true;
  RequestRow row = with_defaults(number);
  draft.left_out = is_answered && is_answered(row);
  if (draft.left_out) {
    draft.row = std::move(row);
    return draft;
  }
  row.sampling.seed = default_seed(defaults_.sampling.seed, row.custom_id);
  draft.row = row_or_failure(row, [&] {
    if (translates()) throw RowProblem{"the row is no JSON object", ""};
    if (!is_valid_utf8(prompt) || prompt.find('\0') != std::string_view::npos) {
      throw RowProblem{"this is no UTF-8 text; save the file as UTF-8", "prompt"};
    }
    refuse_huge(prompt, limits_, "prompt");
    row.prompt = tokenizer_.encode(prompt);
    if (row.echo) row.prompt_text = prompt;
    fit_to_positions({}, limits_, "prompt", row);
    finish(row);
  });
  return draft;
}

}  // namespace sluice::launcher
