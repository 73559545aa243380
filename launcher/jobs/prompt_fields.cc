#include "launcher/jobs/prompt_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>

#include "kernels/device/error.h"
#include "launcher/jobs/chat_fields.h"
#include "launcher/jobs/choice_fields.h"

namespace sluice::launcher {
namespace {

bool adds_special(const RowFields& fields) {
  return fields.boolean("add_special_tokens").value_or(true);
}

/// The text of a prompt of ids, without the BOS token, which a text would not show.
std::string text_of_ids(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  const bool bos = tokenizer.bos() >= 0 && ids.front() == tokenizer.bos();
  return tokenizer.decode(std::span(ids).subspan(bos ? 1 : 0), false);
}

/// The prompt goes through the model, and nothing is sampled. `why`: as refuse_answer_fields().
void leave_out_answer(const RowFields& fields, const char* why, RequestRow& row) {
  refuse_answer_fields(fields, why);
  row.sampling = {};
  row.max_tokens = 0;
  row.echo = false;
}

}  // namespace

bool is_conversation(const RowFields& fields, RowForm form) {
  return form == RowForm::chat || (form == RowForm::plain && has_messages(fields.object()));
}

void refuse_huge(std::string_view text, const ModelLimits& limits, const char* field) {
  const std::size_t most = static_cast<std::size_t>(limits.positions) * limits.longest_token_bytes;
  if (text.size() <= most || most == 0) return;
  const auto is_blank = [](char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); };
  const auto blanks = static_cast<std::size_t>(std::ranges::count_if(text, is_blank));
  if (text.size() - blanks <= most) return;
  throw RowProblem{fmt::format("the prompt has {} bytes, which come to more tokens than the {} "
                               "positions of the model; shorten the prompt",
                               text.size(), limits.positions),
                   field, kContextLength};
}

void read_prompt(const RowFields& fields, const Tokenizer& tokenizer, const ModelLimits& limits,
                 RequestRow& row) {
  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) throw RowProblem{"the row has no prompt", "prompt"};
  if (!prompt->is_string() && !prompt->is_array()) {
    RowFields::refuse("prompt", *prompt, "one text or one list of token ids");
  }
  if (prompt->empty() || *prompt == "") throw RowProblem{"the prompt is empty", "prompt"};
  if (prompt->is_string()) {
    const std::string& text = prompt->text();
    refuse_huge(text, limits, "prompt");
    row.prompt = tokenizer.encode(text, adds_special(fields));
    if (row.prompt.empty()) throw RowProblem{"the prompt has no token", "prompt"};
    if (row.echo) row.prompt_text = text;
    return;
  }
  if (prompt->front().is_string() || prompt->front().is_array()) {
    throw RowProblem{"prompt is a list of prompts; give each prompt a row of its own", "prompt"};
  }
  row.prompt = fields.ids("prompt", limits.vocabulary).value();
  if (row.echo) row.prompt_text = text_of_ids(tokenizer, row.prompt);
}

std::string chat_text(const RowFields& fields, const ChatTemplate* chat, RowForm form) {
  const Chat talk = chat_of(fields, form);
  if (chat == nullptr) throw RowProblem{"messages are not answered here", "messages"};
  try {
    return chat->render(talk);
  } catch (const InputError& problem) {
    throw RowProblem{problem.what(), "messages"};
  }
}

void read_messages(const RowFields& fields, const Tokenizer& tokenizer, const ChatTemplate* chat,
                   const ModelLimits& limits, RequestRow& row) {
  refuse_foreign_chat_fields(fields);
  const std::string text = chat_text(fields, chat, row.form);
  if (text.empty()) throw RowProblem{"the chat template makes no text of the messages", "messages"};
  refuse_huge(text, limits, "messages");
  row.prompt = tokenizer.encode(text, false);
  row.echo = false;
}

void read_embedded(const RowFields& fields, const Tokenizer& tokenizer, const ChatTemplate* chat,
                   const ModelLimits& limits, RequestRow& row) {
  row.embed = read_embed(fields);
  leave_out_answer(fields, "a row with embed has an embedding", row);
  const bool is_chat = is_conversation(fields, row.form);
  if (is_chat) {
    read_messages(fields, tokenizer, chat, limits, row);
  } else {
    read_prompt(fields, tokenizer, limits, row);
  }
  if (longest_request(row) <= limits.positions) return;
  throw RowProblem{
      fmt::format("the prompt has {} tokens, but the model has {} positions; shorten the prompt",
                  row.prompt.size(), limits.positions),
      is_chat ? "messages" : "prompt"};
}

void read_scored(const RowFields& fields, const Tokenizer& tokenizer, const ChatTemplate* chat,
                 const ModelLimits& limits, RequestRow& row) {
  leave_out_answer(fields, "a row with choices is scored", row);
  const bool is_chat = is_conversation(fields, row.form);
  if (is_chat) refuse_foreign_chat_fields(fields);
  const Json* prompt = fields.find("prompt");
  if (!is_chat && prompt != nullptr && prompt->is_array()) {
    read_prompt(fields, tokenizer, limits, row);
    read_choice_ids(fields, tokenizer, row);
  } else {
    const std::optional<std::string> text =
        is_chat ? chat_text(fields, chat, row.form) : fields.text("prompt");
    if (!text) throw RowProblem{"the row has no prompt", "prompt"};
    refuse_huge(*text, limits, is_chat ? "messages" : "prompt");
    read_choices(fields, *text, tokenizer, !is_chat && adds_special(fields), row);
  }
  if (longest_request(row) <= limits.positions) return;
  throw RowProblem{fmt::format("the prompt has {} tokens, and with its longest choice {}, but the "
                               "model has {} positions; shorten the prompt",
                               row.prompt.size(), longest_request(row), limits.positions),
                   is_chat ? "messages" : "prompt"};
}

}  // namespace sluice::launcher
