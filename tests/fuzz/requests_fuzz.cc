// The body of a request of any bytes: refused with an error in OpenAI's form, or rows that the
// model can answer. The first byte says for which endpoint it is: 0 completions, 1 chats,
// 2 embeddings, 3 scores.
#include <string>
#include <utility>
#include <vector>

#include "launcher/chat/chat_template.h"
#include "launcher/serve/api_error.h"
#include "launcher/serve/completion_request.h"
#include "launcher/serve/embedding_request.h"
#include "launcher/serve/score_request.h"
#include "tests/fuzz/refusal.h"
#include "tests/support/small_tokenizer.h"

namespace {

namespace fuzz = sluice::fuzz;
namespace launcher = sluice::launcher;

constexpr std::int32_t kVocabulary = 270;
constexpr std::int32_t kPositions = 64;
constexpr std::int32_t kWidth = 8;

struct Model {
  launcher::Tokenizer tokenizer = sluice::support::small_tokenizer({}, kVocabulary);
  launcher::ChatTemplate chat{"{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
                              "fuzz", launcher::Json::object()};
  launcher::RequestParser parser{tokenizer, {}, {kVocabulary, kPositions}, &chat};
  launcher::CompletionParser completions{parser, parser};
};

void check_row(const launcher::RequestRow& row, launcher::CompletionKind kind, bool stream) {
  fuzz::require(!row.prompt.empty() && row.max_tokens >= 0 && row.choices.empty(),
                "a row is nothing that a completion answers");
  fuzz::require(row.prompt.size() + static_cast<std::size_t>(row.max_tokens) <= kPositions,
                "a row is longer than the model");
  for (const std::int32_t id : row.prompt) {
    fuzz::require(id >= 0 && id < kVocabulary, "there is no such token");
  }
  const bool chat = kind == launcher::CompletionKind::chat;
  fuzz::require((row.form == launcher::RowForm::chat) == chat, "a row has another form");
  fuzz::require(row.n >= 1 && row.n <= 128 && row.best_of >= row.n, "too many answers");
  fuzz::require(!stream || (row.best_of == row.n && row.beams.beams <= 1),
                "a stream takes back what it gave");
}

/// A row that is not answered by a text.
void check_pooled(const launcher::RequestRow& row) {
  fuzz::require(row.max_tokens == 0 && !row.prompt.empty(), "a row gets a text");
  fuzz::require((row.embed != sluice::stage::Embed::none) != !row.choices.empty(),
                "a row has neither an embedding nor choices, or both");
  fuzz::require(launcher::longest_request(row) <= kPositions, "a row is longer than the model");
  for (const launcher::Choice& choice : row.choices) {
    fuzz::require(!choice.tokens.empty(), "a choice has no token");
  }
}

std::vector<launcher::RequestRow> pooled_rows(Model& model, char kind, const launcher::Json& body) {
  if (kind == 2) return read_embedding(body, model.completions, kWidth, "embd-1").rows;
  launcher::ScoreRequest request = read_score(body, model.completions, "score-1");
  fuzz::require(
      request.form.choices ? request.rows.size() == 1 : request.form.firsts < request.rows.size(),
      "there is nothing to compare");
  return std::move(request.rows);
}

void check_error(const launcher::ApiError& error) {
  fuzz::require(error.status >= 400 && error.status < 500 && !error.message.empty(),
                "an error does not say why");
  const launcher::HttpAnswer answer = error_answer(error);
  const launcher::Json body = launcher::Json::parse(answer.body);
  fuzz::require(body.at("error").at("message").is_string() && body.at("error").contains("param"),
                "an error has another form");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static Model model;
  const char endpoint = static_cast<char>(data[0] % 4);
  const auto kind = endpoint == 0 ? launcher::CompletionKind::text : launcher::CompletionKind::chat;
  const std::string body(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (endpoint >= 2) {
      const launcher::Json parsed = launcher::parse_body(body);
      const auto rows = pooled_rows(model, endpoint, parsed);
      fuzz::require(!rows.empty(), "a request has no rows");
      for (const launcher::RequestRow& row : rows) check_pooled(row);
      return 0;
    }
    const launcher::CompletionRequest request =
        model.completions.parse(launcher::parse_body(body), kind, "cmpl-1");
    fuzz::require(!request.rows.empty(), "a request has no rows");
    for (const launcher::RequestRow& row : request.rows) check_row(row, kind, request.stream);
  } catch (const launcher::ApiError& error) {
    check_error(error);
  }
  for (const std::string& warning : model.completions.take_warnings()) {
    fuzz::check_sentence(warning);
  }
  return 0;
}
