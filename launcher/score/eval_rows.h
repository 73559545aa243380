// Questions with choices in the forms that evaluation data sets have, as rows with choices.
#pragma once

#include <string>
#include <string_view>

#include "launcher/json/json.h"

namespace sluice::launcher {

struct EvalOptions {
  std::string prefix;  // few-shot examples, say: in front of every context, as it is
  bool bos = true;     // the context gets the model's BOS token
};

/// {"prompt", "choices", "gold", "add_special_tokens"} of a row in one of these forms:
///
///   - MMLU's: "question", "choices", "answer". The context is the question and the lettered
///     choices, and what is scored are the letters (lm-eval's tasks/mmlu).
///   - HellaSwag's: "ctx" or "ctx_a" and "ctx_b", "endings", "label", with or without
///     "activity_label". What is scored are the endings (lm-eval's tasks/hellaswag).
///
/// A row's "prefix" stands behind that of the options. "answer" and "label" are the index of a
/// choice, as a number or a text, or its letter. Throws RowProblem naming the field that is missing
/// or wrong. Any thread.
Json row_of_question(const Json& question, const EvalOptions& options);

/// lm-eval's preprocess() of HellaSwag: brackets are left over from WikiHow's pages.
std::string without_brackets(std::string_view text);

}  // namespace sluice::launcher
