#include "launcher/chat/tokenize_command.h"

#include <fmt/format.h>

#include <charconv>
#include <istream>
#include <ostream>
#include <string>

#include "launcher/chat/chat_template.h"
#include "launcher/json/json.h"

namespace sluice::launcher {
namespace {

const Json& member(const Json& row, const char* key) {
  const Json* found = row.find(key);
  if (found == nullptr) throw InputError(fmt::format("no JSON object with a key \"{}\"", key));
  return *found;
}

std::int32_t checked_id(const Json& id) {
  if (!id.is_integer_in(0, INT32_MAX)) {
    throw InputError(fmt::format("{} is no token id", id.dump()));
  }
  return static_cast<std::int32_t>(id.integer());
}

std::vector<std::int32_t> parse_ids(std::string_view line) {
  std::vector<std::int32_t> ids;
  for (std::size_t at = line.find_first_not_of(' '); at != std::string_view::npos;
       at = line.find_first_not_of(' ', at)) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    const std::string_view word = line.substr(at, end - at);
    std::int32_t id = -1;
    const auto [stop, problem] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (problem != std::errc() || stop != word.data() + word.size()) {
      throw InputError(fmt::format("\"{}\" is no token id", word));
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

std::string encode_line(const Tokenizer& tokenizer, bool jsonl, const std::string& line) {
  if (!jsonl) return fmt::format("{}", fmt::join(tokenizer.encode(line), " "));
  const Json row = Json::parse(line);
  const Json& text = member(row, "text");
  if (!text.is_string()) throw InputError("\"text\" is no string");
  return Json({{"ids", tokenizer.encode(text.text())}}).dump();
}

std::string chat_line(const Tokenizer& tokenizer, const ChatTemplate& chat,
                      const std::string& line) {
  const Json row = Json::parse(line);
  if (!row.is_object()) throw InputError("no JSON object with a key \"messages\"");
  const std::string text = chat.render(read_chat(row));
  const std::vector<std::int32_t> ids = tokenizer.encode(text, false);
  return Json({{"text", text}, {"ids", ids}}).dump();
}

std::string decode_line(const Tokenizer& tokenizer, bool jsonl, const std::string& line) {
  if (!jsonl) return tokenizer.decode(parse_ids(line), false);
  const Json row = Json::parse(line);
  const Json& list = member(row, "ids");
  if (!list.is_array()) throw InputError("\"ids\" is no list");
  std::vector<std::int32_t> ids;
  for (const Json& id : list) ids.push_back(checked_id(id));
  return Json({{"text", tokenizer.decode(ids, false)}}).dump();
}

std::string answer_to(const Tokenizer& tokenizer, const TokenizeOptions& options,
                      const std::string& line) {
  if (options.chat != nullptr) return chat_line(tokenizer, *options.chat, line);
  if (options.decode) return decode_line(tokenizer, options.jsonl, line);
  return encode_line(tokenizer, options.jsonl, line);
}

}  // namespace

ExitStatus tokenize_lines(const Tokenizer& tokenizer, const TokenizeOptions& options,
                          std::istream& in, std::ostream& out, std::ostream& errors) {
  bool failed = false;
  std::string line;
  for (std::int64_t number = 1; std::getline(in, line); ++number) {
    if (line.ends_with('\r') && (options.jsonl || options.decode)) line.pop_back();
    try {
      out << answer_to(tokenizer, options, line) << '\n';
    } catch (const JsonError& problem) {
      errors << "line " << number << ": " << problem.what() << '\n';
      failed = true;
    } catch (const InputError& problem) {
      errors << "line " << number << ": " << problem.what() << '\n';
      failed = true;
    }
    if (!out)
      throw IoError(fmt::format("the output takes no more after line {} of the input", number));
  }
  if (in.bad()) throw IoError("cannot read the input to its end");
  out.flush();
  if (!out) throw IoError("the output takes no more");
  return failed ? ExitStatus::rows_failed : ExitStatus::done;
}

}  // namespace sluice::launcher
