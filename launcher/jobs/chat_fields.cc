#include "launcher/jobs/chat_fields.h"

#include <algorithm>

namespace sluice::launcher {
namespace {

constexpr std::string_view kFields[] = {"messages",
                                        "tools",
                                        "add_generation_prompt",
                                        "chat_template_kwargs",
                                        "max_completion_tokens",
                                        "top_logprobs",
                                        "tool_choice",
                                        "parallel_tool_calls"};

/// A copy of `call` whose function's arguments are an object where they were JSON in a text.
Json with_arguments(const Json& call) {
  const Json& arguments = call.member("function").member("arguments");
  if (!arguments.is_string()) return call;
  Json parsed = Json::parse_or_null(arguments.text());
  if (!parsed.is_object()) return call;
  Json changed = call;
  changed["function"]["arguments"] = std::move(parsed);
  return changed;
}

Json with_parsed_arguments(const Json& messages) {
  Json changed = Json::array();
  for (const Json& message : messages) {
    changed.push_back(message);
    const Json& calls = message.member("tool_calls");
    if (!calls.is_array()) continue;
    Json parsed = Json::array();
    for (const Json& call : calls) parsed.push_back(with_arguments(call));
    changed.back()["tool_calls"] = std::move(parsed);
  }
  return changed;
}

}  // namespace

bool has_messages(const Json& object) { return !object.member("messages").is_null(); }

bool is_chat_field(std::string_view name) { return std::ranges::count(kFields, name) > 0; }

Chat chat_of(const RowFields& fields, RowForm form) {
  if (fields.find("prompt") != nullptr && has_messages(fields.object())) {
    throw RowProblem{"the row has both a prompt and messages; give one of them", "prompt"};
  }
  if (fields.boolean("echo").value_or(false)) {
    throw RowProblem{"echo is true, which conversations do not have; leave it out", "echo"};
  }
  try {
    Chat chat = read_chat(fields.object());
    if (form == RowForm::chat) chat.messages = with_parsed_arguments(chat.messages);
    return chat;
  } catch (const ChatFieldError& problem) {
    throw RowProblem{problem.what(), problem.field};
  }
}

void read_chat_logprobs(const RowFields& fields, RequestRow& row) {
  const auto wanted = fields.boolean("logprobs");
  const auto top = fields.integer("top_logprobs", 0, stage::kMaxLogprobs);
  if (top && !wanted.value_or(false)) {
    throw RowProblem{"top_logprobs is given without logprobs: true", "top_logprobs"};
  }
  if (wanted) row.sampling.logprobs = *wanted ? static_cast<std::int32_t>(top.value_or(0)) : -1;
}

void refuse_foreign_chat_fields(const RowFields& fields) {
  fields.require("tool_choice",
                 [](const Json& value) { return value == "auto" || value == "none"; });
}

}  // namespace sluice::launcher
