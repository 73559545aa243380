#include "launcher/jobs/choice_fields.h"

#include <fmt/format.h>

#include <string>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr const char* kChoices = "choices";
constexpr const char* kEmbed = "embed";
constexpr std::size_t kMostChoices = 4096;

/// Python's str.isspace(), which str.rstrip() goes by.
bool is_python_space(char32_t character) {
  return is_white_space(character) || (character >= 0x1C && character <= 0x1F);
}

/// Without the white space at its end. Pre: valid UTF-8.
std::string_view right_stripped(std::string_view text) {
  while (!text.empty()) {
    const std::string_view last = last_part(text);
    if (!is_python_space(first_character(last))) break;
    text.remove_suffix(last.size());
  }
  return text;
}

const Json& list_of(const RowFields& fields) {
  const Json& list = *fields.find(kChoices);
  if (!list.is_array() || list.empty()) {
    RowFields::refuse(kChoices, list, "a list of texts, or of lists of token ids");
  }
  if (list.size() > kMostChoices) {
    throw RowProblem{
        fmt::format("choices has {} entries; it may have {}", list.size(), kMostChoices), kChoices};
  }
  return list;
}

[[noreturn]] void refuse_choice(std::size_t index, const Json& value, const std::string& wanted) {
  RowFields::refuse(fmt::format("choices[{}]", index).c_str(), value, wanted);
}

}  // namespace

bool has_choices(const Json& object) {
  const Json* choices = object.find(kChoices);
  return choices != nullptr && !choices->is_null();
}

bool has_embed(const Json& object) {
  const Json* embed = object.find(kEmbed);
  return embed != nullptr && !embed->is_null();
}

stage::Embed read_embed(const RowFields& fields) {
  const Json& embed = *fields.find(kEmbed);
  if (embed != "mean" && embed != "last") RowFields::refuse(kEmbed, embed, "\"mean\" or \"last\"");
  if (has_choices(fields.object())) {
    throw RowProblem{"a row has choices or embed, not both; give each a row of its own", kEmbed};
  }
  return embed == "mean" ? stage::Embed::mean : stage::Embed::last;
}

void refuse_answer_fields(const RowFields& fields, const char* why) {
  const auto is_one = [](const Json& value) { return value == 1; };
  const auto is_zero = [](const Json& value) { return value == 0; };
  const auto is_false = [](const Json& value) { return value == false; };
  const auto is_empty = [](const Json& value) { return value.empty() || value == ""; };
  const auto refuse = [&](const char* name, bool (*harmless)(const Json&)) {
    const Json* value = fields.find(name);
    if (value == nullptr || harmless(*value)) return;
    throw RowProblem{
        fmt::format("{} is {}, but {} and has no answer; leave it out", name, shown(*value), why),
        name};
  };
  refuse("max_tokens", is_zero);
  refuse("max_completion_tokens", is_zero);
  refuse("n", is_one);
  refuse("best_of", is_one);
  refuse("num_beams", is_one);
  refuse("echo", is_false);
  refuse("logprobs", [](const Json& value) { return value == 0 || value.is_boolean(); });
  refuse("stop", is_empty);
  refuse("stop_token_ids", is_empty);
  for (const char* form : {"regex", "choice", "grammar"}) {
    refuse(form, [](const Json&) { return false; });
  }
  refuse("response_format", [](const Json& value) { return value.member("type") == "text"; });
}

void read_choices(const RowFields& fields, std::string_view context, const Tokenizer& tokenizer,
                  bool add_special, RequestRow& row) {
  row.prompt = tokenizer.encode(right_stripped(context), add_special);
  for (const Json& one : list_of(fields)) {
    const std::size_t index = row.choices.size();
    if (!one.is_string() || one.text().empty()) refuse_choice(index, one, "a text");
    Choice& choice = row.choices.emplace_back();
    choice.text = one.text();
    const auto whole = tokenizer.encode(std::string(context) + choice.text, add_special);
    if (whole.size() <= row.prompt.size()) {
      throw RowProblem{fmt::format("choices[{}] has no token of its own behind the prompt; let it "
                                   "begin with a blank, or give token ids",
                                   index),
                       kChoices};
    }
    choice.tokens.assign(whole.begin() + static_cast<std::ptrdiff_t>(row.prompt.size()),
                         whole.end());
  }
  if (!row.prompt.empty()) return;
  const std::int32_t first = tokenizer.bos() >= 0 ? tokenizer.bos() : tokenizer.eos();
  if (first < 0) throw RowProblem{"the prompt is empty, and the model has no BOS token", "prompt"};
  row.prompt.push_back(first);
}

void read_choice_ids(const RowFields& fields, const Tokenizer& tokenizer, RequestRow& row) {
  for (const Json& one : list_of(fields)) {
    const std::size_t index = row.choices.size();
    if (!one.is_array() || one.empty()) {
      refuse_choice(index, one, "a list of token ids, as the prompt is");
    }
    Choice& choice = row.choices.emplace_back();
    for (const Json& id : one) {
      if (!id.is_integer_in(0, tokenizer.table_size() - 1)) {
        refuse_choice(index, id,
                      fmt::format("a list of token ids of this model, integers from 0 to {}",
                                  tokenizer.table_size() - 1));
      }
      choice.tokens.push_back(static_cast<std::int32_t>(id.integer()));
    }
    choice.text = tokenizer.decode(choice.tokens, false);
  }
}

}  // namespace sluice::launcher
