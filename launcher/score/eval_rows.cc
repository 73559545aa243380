#include "launcher/score/eval_rows.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "launcher/jobs/row_fields.h"
#include "launcher/tokenizer/unicode.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kLetters = 26;

std::string_view stripped(std::string_view text) {
  while (!text.empty() && is_white_space(first_character(text))) {
    std::size_t bytes = 0;
    character_at(text, 0, bytes);
    text.remove_prefix(bytes);
  }
  while (!text.empty() && is_white_space(first_character(last_part(text)))) {
    text.remove_suffix(last_part(text).size());
  }
  return text;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// Python's str.capitalize() where the first letter is of ASCII.
std::string capitalized(std::string_view text) {
  std::string made = lower_case(text);
  if (!made.empty() && made[0] >= 'a' && made[0] <= 'z') made[0] += 'A' - 'a';
  return made;
}

/// A text that the form of the row needs. `form`: "a question".
std::string text_of(const RowFields& fields, const char* name, const char* form) {
  auto text = fields.text(name);
  if (!text) throw RowProblem{fmt::format("the row has {}, but no {}", form, name), name};
  return *std::move(text);
}

Json::Array texts_of(const RowFields& fields, const char* name, const char* form) {
  const Json* list = fields.find(name);
  if (list == nullptr) throw RowProblem{fmt::format("the row has {}, but no {}", form, name), name};
  Json::Array texts;
  for (const Json& one : *list) {
    if (!one.is_string()) RowFields::refuse(name, one, "a list of texts");
    texts.push_back(one);
  }
  if (texts.empty()) RowFields::refuse(name, *list, "a list of texts");
  return texts;
}

/// An index, also as a text, or a letter from A on.
std::size_t gold_of(const RowFields& fields, const char* name, const char* form,
                    std::size_t choices) {
  const Json* value = fields.find(name);
  if (value == nullptr) {
    throw RowProblem{fmt::format("the row has {}, but no {}", form, name), name};
  }
  const auto most = static_cast<std::int64_t>(choices) - 1;
  if (value->is_integer_in(0, most)) return static_cast<std::size_t>(value->integer());
  if (value->is_string()) {
    const std::string_view text = stripped(value->text());
    std::size_t index = choices;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    const bool is_number = error == std::errc() && end == text.data() + text.size();
    if (!is_number && text.size() == 1 && text[0] >= 'A' && text[0] <= 'Z') {
      index = static_cast<std::size_t>(text[0] - 'A');
    }
    if (index < choices) return index;
  }
  RowFields::refuse(name, *value,
                    fmt::format("the index or the letter of one of the {} choices", choices));
}

Json row_of(const RowFields& fields, const EvalOptions& options, const std::string& context,
            Json::Array choices, std::size_t gold) {
  Json row = Json::object();
  row["prompt"] = options.prefix + fields.text("prefix").value_or("") + context;
  row["choices"] = std::move(choices);
  row["add_special_tokens"] = options.bos;
  row["gold"] = gold;
  return row;
}

Json row_of_mmlu(const RowFields& fields, const EvalOptions& options) {
  constexpr const char* kForm = "a question";
  std::string context(stripped(text_of(fields, "question", kForm)));
  const Json::Array texts = texts_of(fields, "choices", kForm);
  if (texts.size() > kLetters) {
    throw RowProblem{fmt::format("choices has {} texts, more than there are letters", texts.size()),
                     "choices"};
  }
  const std::size_t gold = gold_of(fields, "answer", kForm, texts.size());
  Json::Array choices;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const char letter = static_cast<char>('A' + i);
    context += fmt::format("\n{}. {}", letter, texts[i].text());
    choices.emplace_back(std::string({' ', letter}));
  }
  return row_of(fields, options, context + "\nAnswer:", std::move(choices), gold);
}

Json row_of_hellaswag(const RowFields& fields, const EvalOptions& options) {
  constexpr const char* kForm = "a ctx";
  std::string context;
  if (const auto label = fields.text("activity_label")) context = *label + ": ";
  const auto first = fields.text("ctx_a");
  const auto second = fields.text("ctx_b");
  context += first && second ? *first + " " + capitalized(*second) : text_of(fields, "ctx", kForm);
  Json::Array choices = texts_of(fields, "endings", kForm);
  for (Json& one : choices) one = fmt::format(" {}", without_brackets(one.text()));
  const std::size_t gold = gold_of(fields, "label", kForm, choices.size());
  return row_of(fields, options, without_brackets(context), std::move(choices), gold);
}

}  // namespace

std::string without_brackets(std::string_view text) {
  std::string made(stripped(text));
  replace_all(made, " [title]", ". ");
  for (std::size_t begin = made.find('['); begin != std::string::npos;) {
    const std::size_t end = made.find_first_of("]\n", begin);
    if (end != std::string::npos && made[end] == ']') {
      made.erase(begin, end - begin + 1);
      begin = made.find('[', begin);
    } else {
      begin = made.find('[', begin + 1);
    }
  }
  replace_all(made, "  ", " ");
  return made;
}

Json row_of_question(const Json& question, const EvalOptions& options) {
  const RowFields fields(question);
  if (fields.find("question") != nullptr) return row_of_mmlu(fields, options);
  if (fields.find("ctx") != nullptr || fields.find("ctx_a") != nullptr) {
    return row_of_hellaswag(fields, options);
  }
  throw RowProblem{
      "the row has neither a question (with choices and answer, as MMLU's) nor a ctx (with endings "
      "and label, as HellaSwag's)",
      "question"};
}

}  // namespace sluice::launcher
