// A job's input of any bytes: refused as a whole, or each of its lines is a row that the model can
// answer or a failure that says what is wrong. The record of either is one that --resume reads.
// The first byte says what the file is called; the lines are read as an output's, too.
#include <cmath>
#include <sstream>
#include <string>
#include <variant>

#include "launcher/chat/chat_template.h"
#include "launcher/jobs/answer_form.h"
#include "launcher/jobs/finished_rows.h"
#include "launcher/jobs/input_scan.h"
#include "launcher/jobs/request_reader.h"
#include "tests/fuzz/refusal.h"
#include "tests/support/small_tokenizer.h"

namespace {

namespace fuzz = sluice::fuzz;
namespace launcher = sluice::launcher;
using launcher::InputLine;
using launcher::RequestRow;
using launcher::RowFailure;
using sluice::ExitStatus;

constexpr std::int32_t kVocabulary = 270;
constexpr std::int32_t kPositions = 64;

struct Model {
  launcher::Tokenizer tokenizer = sluice::support::small_tokenizer({}, kVocabulary);
  launcher::ChatTemplate chat{"{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
                              "fuzz", launcher::Json::object()};
  launcher::RequestParser parser{tokenizer, {}, {kVocabulary, kPositions}, &chat};
};

void check_row(const RequestRow& row) {
  fuzz::require(!row.prompt.empty() && row.max_tokens >= 0, "a row has no prompt");
  fuzz::require(row.prompt.size() + static_cast<std::size_t>(row.max_tokens) <= kPositions,
                "a row is longer than the model");
  for (const auto* ids : {&row.prompt, &row.stop_token_ids}) {
    for (const std::int32_t id : *ids) fuzz::require(id >= 0 && id < kVocabulary, "no such token");
  }
  const sluice::stage::Sampling& sampling = row.sampling;
  fuzz::require(sampling.temperature >= 0 && std::isfinite(sampling.temperature) &&
                    sampling.top_k >= 0 && sampling.top_p > 0 && sampling.top_p <= 1 &&
                    sampling.repetition_penalty > 0 && std::isfinite(sampling.repetition_penalty) &&
                    sampling.min_p >= 0 && sampling.min_p <= 1 && sampling.min_tokens >= 0 &&
                    sampling.no_repeat_ngram >= 0 && std::abs(sampling.frequency_penalty) <= 2 &&
                    std::abs(sampling.presence_penalty) <= 2 &&
                    sampling.logprobs <= sluice::stage::kMaxLogprobs,
                "a row is sampled in an impossible way");
  const std::vector<std::int32_t> rules = encode(row.rules);
  fuzz::require(
      rules.size() <= sluice::stage::kMaxRuleWords && sluice::stage::are_rules(rules, kVocabulary),
      "a row has rules that cannot travel");
}

/// One line, which a later run takes for what it is.
void check_record(const std::string& record, std::size_t failures) {
  fuzz::require(record.find('\n') == std::string::npos, "a record has several lines");
  launcher::FinishedRows finished;
  finished.add(record, "the output");
  fuzz::require(
      finished.records() == 1 && static_cast<std::size_t>(finished.failures()) == failures,
      "a record is taken for another");
}

void check_line(const InputLine& line, launcher::RequestParser& parser) {
  const launcher::ParsedRow parsed = launcher::parse(line, parser);
  if (const auto* failure = std::get_if<RowFailure>(&parsed)) {
    fuzz::require(failure->line == line.number && !failure->message.empty(),
                  "a failure does not say where or why");
    return check_record(failure_record(*failure), 1);
  }
  const RequestRow& row = std::get<RequestRow>(parsed);
  check_row(row);
  fuzz::require(most_tokens_of(line.text, line.is_json, parser) >= longest_request(row),
                "a row is longer than what was planned for");
  static const Model model;
  std::vector<launcher::Answer> answers;
  for (std::size_t i = 0; i < launcher::parts_of(row); ++i) {
    answers.emplace_back(model.tokenizer, row, 2).finish_without_tokens();
  }
  check_record(answer_record(answers, {"fuzz", 1}), 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static constexpr const char* kNames[] = {"rows.jsonl", "rows.json", "rows.txt", "-"};
  static Model model;
  launcher::RequestParser parser = model.parser;
  launcher::FinishedRows finished;
  std::istringstream in(std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  launcher::InputLines lines(in, kNames[data[0] % 4]);
  InputLine line;
  bool more = true;
  const auto next = [&] { more = lines.next(line); };
  while (fuzz::accepts(ExitStatus::bad_input, next) && more) {
    fuzz::accepts(ExitStatus::bad_input, [&] { finished.add(line.text, "line 1"); });
    check_line(line, parser);
  }
  for (const std::string& warning : parser.take_warnings()) fuzz::check_sentence(warning);
  return 0;
}
