#include "launcher/jobs/grammar_fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "launcher/structured/grammar_problem.h"
#include "launcher/structured/structured_answer.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMostCached = 256;
constexpr std::size_t kMostChoices = 1000;

/// A grammar that a row asks for: what it is made from, and how.
struct Asked {
  const char* field = "";
  std::string text;
  std::function<grammar::Program()> make;
};

Asked schema_asked(const RowFields& format) {
  const Json* holder = format.find("json_schema");
  const Json* schema = holder == nullptr ? nullptr : holder->find("schema");
  if (schema == nullptr) {
    throw RowProblem{
        "response_format of type json_schema has no schema; give it as "
        "{\"type\": \"json_schema\", \"json_schema\": {\"schema\": {...}}}",
        "response_format"};
  }
  for (const auto& [name, value] : holder->items()) {
    if (name == "schema" || name == "name" || name == "description" || name == "strict") continue;
    throw RowProblem{fmt::format("response_format.json_schema has the field {}, which is not "
                                 "supported; leave it out",
                                 shown(Json(name))),
                     "response_format"};
  }
  return {"response_format", "schema" + schema->dump(),
          [schema = *schema] { return schema_program(schema); }};
}

std::optional<Asked> format_asked(const Json& value) {
  if (!value.is_object()) RowFields::refuse("response_format", value, "an object with a type");
  const Json& type = value.member("type");
  for (const auto& [name, part] : value.items()) {
    if (name == "type" || (name == "json_schema" && type == "json_schema")) continue;
    throw RowProblem{
        fmt::format("response_format has the field {}, which is not supported; leave it out",
                    shown(Json(name))),
        "response_format"};
  }
  if (type == "text") return {};
  if (type == "json_object") return Asked{"response_format", "object", json_object_program};
  if (type == "json_schema") return schema_asked(RowFields(value));
  throw RowProblem{fmt::format("response_format.type is {}; it must be \"text\", \"json_object\" "
                               "or \"json_schema\"",
                               shown(type)),
                   "response_format"};
}

Asked choice_asked(const Json& value) {
  std::vector<std::string> choices;
  for (const Json& one : value) {
    if (!one.is_string() || one.text().empty()) break;
    choices.push_back(one.text());
  }
  if (!value.is_array() || choices.empty() || choices.size() != value.size() ||
      choices.size() > kMostChoices) {
    RowFields::refuse("choice", value,
                      fmt::format("a list of 1 to {} texts, none empty", kMostChoices));
  }
  return {"choice", "choice" + value.dump(), [choices] { return choice_program(choices); }};
}

/// What the row asks for; nothing: any text.
std::optional<Asked> asked_of(const RowFields& fields) {
  std::vector<Asked> asked;
  if (const Json* format = fields.find("response_format")) {
    if (auto one = format_asked(*format)) asked.push_back(std::move(*one));
  }
  if (const auto pattern = fields.text("regex")) {
    asked.push_back({"regex", "regex" + *pattern, [=] { return pattern_program(*pattern); }});
  }
  if (const Json* choice = fields.find("choice")) asked.push_back(choice_asked(*choice));
  if (const auto text = fields.text("grammar")) {
    asked.push_back({"grammar", "grammar" + *text, [=] { return gbnf_program(*text); }});
  }
  if (asked.size() > 1) {
    throw RowProblem{
        fmt::format("the row has both {} and {}; give one of them", asked[0].field, asked[1].field),
        asked[1].field};
  }
  if (asked.empty()) return {};
  return std::move(asked.front());
}

/// Throws for settings that could end an answer before it is one.
void check_beside(const char* field, const RequestRow& row) {
  const auto refuse = [&](const char* setting, const char* why) {
    throw RowProblem{fmt::format("{} cannot be had with {}: {}", setting, field, why), setting};
  };
  if (row.beams.beams > 1) refuse("num_beams", "a search does not know where an answer may end");
  if (row.ignore_eos) refuse("ignore_eos", "such an answer ends where it is complete");
  if (!row.stop.empty()) refuse("stop", "a stop string could cut the answer in the middle");
  if (row.sampling.min_tokens > 0) {
    refuse("min_tokens", "an answer that is complete could not end");
  }
}

/// Where a text begins some tokenizers leave out a blank, which the grammar would count.
void check_begin(const char* field, const Tokenizer& tokenizer, const RequestRow& row) {
  const auto hides = [&](std::int32_t id) {
    return !tokenizer.has_token(id) || (row.skip_special && tokenizer.is_special(id));
  };
  if (!std::ranges::all_of(row.prompt, hides)) return;
  bool differs = tokenizer.decoder().strip_count() > 0;
  for (std::int32_t id = 0; id < tokenizer.table_size() && !differs; ++id) {
    differs = tokenizer.first_token_bytes(id) != tokenizer.token_bytes(id);
  }
  if (!differs) return;
  throw RowProblem{fmt::format("the prompt is empty, and the model's tokenizer drops a blank where "
                               "a text begins; with {} give a prompt of some text",
                               field),
                   "prompt"};
}

std::vector<std::int32_t> end_tokens(std::int32_t eos, const RequestRow& row) {
  std::vector<std::int32_t> ends = row.stop_token_ids;
  if (eos >= 0) ends.push_back(eos);
  std::ranges::sort(ends);
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

}  // namespace

stage::SharedGrammar GrammarCache::find_or_make(const std::string& key,
                                                const std::function<grammar::Program()>& make) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = grammars_.find(key);
    if (found != grammars_.end()) return found->second;
  }
  auto made = std::make_shared<const std::vector<std::byte>>(encode(make()));
  const std::lock_guard lock(mutex_);
  if (grammars_.size() >= kMostCached) grammars_.clear();
  return grammars_.try_emplace(key, std::move(made)).first->second;
}

void read_grammar(const RowFields& fields, const Tokenizer& tokenizer, std::int32_t eos,
                  GrammarCache& cache, RequestRow& row) {
  const std::optional<Asked> asked = asked_of(fields);
  if (!asked) return;
  check_beside(asked->field, row);
  check_begin(asked->field, tokenizer, row);
  std::vector<std::int32_t> ends = end_tokens(eos, row);
  if (ends.empty() || ends.size() > grammar::kMostEndTokens || tokenizer.size() == 0) {
    throw RowProblem{
        fmt::format("{} wants a model with a tokenizer and an EOS token", asked->field),
        asked->field};
  }
  try {
    row.grammar = cache.find_or_make(fmt::format("{} {}", fmt::join(ends, ","), asked->text), [&] {
      grammar::Program program = asked->make();
      program.end_tokens = std::move(ends);
      return program;
    });
  } catch (const GrammarProblem& problem) {
    throw RowProblem{fmt::format("{}: {}", asked->field, problem.what()), asked->field};
  }
}

}  // namespace sluice::launcher
