// The fields of a row that say what its answer must look like: response_format, regex, choice and
// grammar.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>

#include "grammar/program.h"
#include "launcher/jobs/request_row.h"
#include "launcher/jobs/row_fields.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// Grammars of the rows so far, since many rows have the same. Any thread.
class GrammarCache {
 public:
  /// The grammar that `make` makes, or the one that it made for an equal key. What it throws goes
  /// through.
  stage::SharedGrammar find_or_make(const std::string& key,
                                    const std::function<grammar::Program()>& make);

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, stage::SharedGrammar> grammars_;
};

/// Reads at most one of these into row.grammar:
/// - response_format: {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema",
///   "json_schema": {"schema": ...}} (json_schema.h says what is followed)
/// - regex: a pattern for the whole answer (pattern.h)
/// - choice: a list of texts, of which the answer is one
/// - grammar: a text in llama.cpp's notation (gbnf.h)
/// `eos` ends answers, and so do the row's stop_token_ids, which are complete: -1: nothing else.
/// Throws RowProblem, also for settings that would cut such an answer short.
void read_grammar(const RowFields& fields, const Tokenizer& tokenizer, std::int32_t eos,
                  GrammarCache& cache, RequestRow& row);

}  // namespace sluice::launcher
