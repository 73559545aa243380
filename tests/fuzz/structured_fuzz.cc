// What an answer must look like, of any bytes: refused in a sentence, or a program that travels
// unchanged and whose matcher, given any text, stays within its bounds. The first byte says what
// the others are. Where they are a schema, what the matcher reads to an end is JSON.
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "grammar/matcher.h"
#include "launcher/json/json.h"
#include "launcher/structured/grammar_problem.h"
#include "launcher/structured/structured_answer.h"
#include "launcher/tokenizer/utf8.h"
#include "tests/fuzz/refusal.h"

namespace {

namespace fuzz = sluice::fuzz;
namespace launcher = sluice::launcher;
using sluice::grammar::Matcher;
using sluice::grammar::Program;

std::optional<Program> program_of(unsigned kind, const std::string& text) {
  if (!launcher::is_valid_utf8(text)) return {};  // rows are UTF-8
  try {
    if (kind == 0) return launcher::pattern_program(text);
    if (kind == 1) return launcher::gbnf_program(text);
    return launcher::schema_program(launcher::Json::parse(text));
  } catch (const launcher::JsonError&) {
    return {};
  } catch (const launcher::GrammarProblem& problem) {
    // A row's failure writes it as JSON, so it may have any character; but it must not be endless.
    const std::string_view sentence = problem.what();
    fuzz::require(!sentence.empty() && sentence.size() < 4000, "a problem is no sentence");
    return {};
  }
}

/// Goes on with the first byte that may come, from one that the text chooses.
std::string written(Matcher& matcher, std::string_view choices) {
  std::string text;
  Matcher::State state = matcher.start();
  for (std::size_t i = 0; i < 300 && !matcher.must_end(state); ++i) {
    const auto first =
        static_cast<unsigned char>(choices.empty() ? 0 : choices[i % choices.size()]);
    Matcher::State behind = Matcher::kDead;
    for (unsigned k = 0; k < 256 && behind < 0; ++k) {
      const auto byte = static_cast<std::uint8_t>(first + k);
      behind = matcher.next(state, byte);
      if (behind >= 0) text += static_cast<char>(byte);
    }
    fuzz::require(behind >= 0 || matcher.may_end(state) || matcher.is_too_ambiguous(),
                  "a text that was begun cannot be ended");
    if (behind < 0) break;
    state = behind;
  }
  return matcher.may_end(state) ? text : "";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const unsigned kind = data[0] % 3;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::optional<Program> program = program_of(kind, text);
  if (!program) return 0;
  const auto bytes = encode(*program);
  fuzz::require(bytes.size() <= sluice::grammar::kMostProgramBytes, "a program is too long");
  fuzz::require(sluice::grammar::decode(bytes) == *program, "a program travels changed");
  Matcher matcher(*program);
  const std::string made = written(matcher, text);
  fuzz::require(launcher::is_valid_utf8(made), "a text is no UTF-8");
  if (kind != 2 || made.empty()) return 0;
  try {
    launcher::Json::parse(made, 10'000);
  } catch (const launcher::JsonError& problem) {
    fuzz::require(problem.kind() == launcher::JsonError::Kind::duplicate, "a value is no JSON");
  }
  return 0;
}
