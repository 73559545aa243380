#include "launcher/jobs/unknown_fields.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "launcher/config/nearest_name.h"
#include "launcher/jobs/chat_fields.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kFields[] = {"custom_id",
                                        "prompt",
                                        "choices",
                                        "embed",
                                        "lora",
                                        "max_tokens",
                                        "temperature",
                                        "top_p",
                                        "top_k",
                                        "stop",
                                        "seed",
                                        "logprobs",
                                        "echo",
                                        "repetition_penalty",
                                        "frequency_penalty",
                                        "presence_penalty",
                                        "logit_bias",
                                        "min_p",
                                        "min_tokens",
                                        "bad_words",
                                        "no_repeat_ngram_size",
                                        "n",
                                        "best_of",
                                        "num_beams",
                                        "length_penalty",
                                        "early_stopping",
                                        "response_format",
                                        "regex",
                                        "choice",
                                        "grammar",
                                        "stop_token_ids",
                                        "ignore_eos",
                                        "skip_special_tokens",
                                        "add_special_tokens"};
// OpenAI's fields for things that sluice does not do. A value that asks for nothing is accepted.
constexpr std::string_view kForeignFields[] = {"stream", "suffix"};
// Of the batch form, around the body.
constexpr std::string_view kBatchFields[] = {"custom_id", "method", "url", "body"};
// Of the batch form's body, beside those of every row.
constexpr std::string_view kBodyFields[] = {"model", "user"};

const std::string kBody = "body.";

enum class FieldPlace : std::uint8_t { row, around_body, body };

template <class Names>
bool has(const Names& names, std::string_view name) {
  return std::ranges::count(names, name) > 0;
}

/// Calls `on_unknown(name, value, part)` for each of them.
template <class Visitor>
void visit_unknown(const Json& object, RowForm form, const Visitor& on_unknown) {
  const bool batch = form != RowForm::plain;
  const Json& request = batch ? object.member("body") : object;
  const bool chat = has_messages(request);
  const auto is_field = [&](std::string_view name) {
    return has(kFields, name) || has(kForeignFields, name) || (chat && is_chat_field(name)) ||
           (batch && has(kBodyFields, name));
  };
  if (batch) {
    for (const auto& [name, value] : object.items()) {
      if (!has(kBatchFields, name)) on_unknown(name, value, FieldPlace::around_body);
    }
  }
  for (const auto& [name, value] : request.items()) {
    if (!is_field(name)) on_unknown(name, value, batch ? FieldPlace::body : FieldPlace::row);
  }
}

}  // namespace

std::vector<UnknownField> unknown_fields(const Json& object, RowForm form) {
  std::vector<UnknownField> found;
  visit_unknown(object, form, [&](const std::string& name, const Json&, FieldPlace part) {
    found.push_back(
        {part == FieldPlace::body ? kBody + name : name, part == FieldPlace::around_body});
  });
  return found;
}

std::vector<UnknownField> unknown_fields_of_body(const Json& body) {
  const bool chat = has_messages(body);
  std::vector<UnknownField> found;
  for (const auto& [name, value] : body.items()) {
    const bool known = has(kFields, name) || has(kForeignFields, name) || has(kBodyFields, name) ||
                       (chat && is_chat_field(name));
    if (!known) found.push_back({name, false});
  }
  return found;
}

std::string meant_by(const UnknownField& field) {
  if (field.around_body) {
    return suggestion(field.name, {std::begin(kBatchFields), std::end(kBatchFields)});
  }
  std::vector<std::string> names(std::begin(kFields), std::end(kFields));
  names.insert(names.end(), {"messages", "max_completion_tokens"});
  const bool in_body = field.name.starts_with(kBody);
  return suggestion(in_body ? field.name.substr(kBody.size()) : field.name, names);
}

std::string kept_fields(const Json& object, RowForm form) {
  Json kept = Json::object();
  visit_unknown(object, form, [&](const std::string& name, const Json& value, FieldPlace part) {
    (part == FieldPlace::body ? kept["body"] : kept)[name] = value;
  });
  return kept.empty() ? std::string() : kept.dump();
}

}  // namespace sluice::launcher
