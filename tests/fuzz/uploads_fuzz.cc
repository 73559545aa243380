// What clients upload, of any bytes. The first byte says what it is: even, a form, whose
// Content-Type is the first line; odd, the lines of a batch. A form is refused or comes to parts of
// its body; a line is a request or a problem, and its record is one that a restarted server reads.
#include <algorithm>
#include <string>
#include <string_view>

#include "launcher/jobs/finished_rows.h"
#include "launcher/serve/api_error.h"
#include "launcher/serve/batch_line.h"
#include "launcher/serve/http_text.h"
#include "launcher/serve/multipart.h"
#include "tests/fuzz/refusal.h"

namespace {

namespace fuzz = sluice::fuzz;
namespace launcher = sluice::launcher;

constexpr std::string_view kEndpoint = "/v1/completions";

void check_form(std::string_view text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view type = text.substr(0, end);
  const std::string_view body = text.substr(std::min(end + 1, text.size()));
  fuzz::require(launcher::query_of(type, "limit").size() <= type.size(), "a query grows");
  launcher::is_form_type(type);
  try {
    const auto parts = launcher::parse_form(type, body);
    const char* last = body.data();
    for (const launcher::FormPart& part : parts) {
      fuzz::require(part.content.data() >= last &&
                        part.content.data() + part.content.size() <= body.data() + body.size(),
                    "a part is no part of the body");
      last = part.content.data() + part.content.size();
    }
    fuzz::require(parts.size() <= 16, "there are too many parts");
  } catch (const launcher::ApiError& error) {
    fuzz::require(error.status == 400, "a form is refused by another status");
    fuzz::check_sentence(error.message);
  }
}

/// A later run takes the record for what it is.
void check_record(const launcher::BatchLine& line, int status, const std::string& body) {
  const std::string record = batch_record(line, status, body);
  fuzz::require(record.find('\n') == std::string::npos, "a record has several lines");
  const auto facts = launcher::facts_of(record);
  fuzz::require(facts.has_value(), "a record is none");
  fuzz::require(facts->key == line.key(), "a record is another line's");
  fuzz::require((facts->kind == launcher::RecordKind::answer) == (status == 200),
                "a record is of another kind");
}

void check_line(std::string_view text, std::int64_t number) {
  const launcher::BatchLine line = launcher::read_batch_line(text, number, kEndpoint);
  if (line.problem) {
    fuzz::require(line.problem->status == 400 && !line.problem->message.empty(),
                  "a problem does not say what is wrong");
    return check_record(line, 400, error_body(*line.problem).dump());
  }
  fuzz::require(line.named && !line.custom_id.empty() && line.body.is_object(),
                "a line is no request");
  const launcher::Json& stream = line.body.member("stream");
  fuzz::require(stream.is_null() || stream == false, "a line is streamed");
  check_record(line, 200, launcher::Json({{"choices", launcher::Json::array()}}).dump());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    check_form(rest);
    return 0;
  }
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    check_line(rest.substr(0, end), number);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return 0;
}
