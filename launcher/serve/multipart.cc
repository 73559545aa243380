#include "launcher/serve/multipart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "launcher/serve/api_error.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMostParts = 16;
constexpr std::size_t kMostHeaderBytes = 8 << 10;  // of a part
constexpr std::size_t kMostBoundaryBytes = 70;     // RFC 2046

[[noreturn]] void refuse(const std::string& what) {
  throw ApiError{400, fmt::format("the body is no multipart/form-data that can be read: {}", what)};
}

bool equal_words(std::string_view left, std::string_view right) {
  return std::ranges::equal(left, right, [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) ==
           std::tolower(static_cast<unsigned char>(b));
  });
}

std::string_view trimmed(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

/// A quoted text at the front of `rest`, which is moved behind it. Browsers write a quotation mark
/// as %22, others as \".
std::optional<std::string> take_quoted(std::string_view& rest) {
  std::string text;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] == '"') {
      rest.remove_prefix(i + 1);
      return text;
    }
    const bool escaped =
        rest[i] == '\\' && i + 1 < rest.size() && (rest[i + 1] == '"' || rest[i + 1] == '\\');
    if (escaped) ++i;
    text += rest[i];
  }
  return {};
}

/// The value of one of the parameters behind a header's first word: `; name="value"; ...`.
std::optional<std::string> parameter(std::string_view header, std::string_view name) {
  std::size_t semicolon = header.find(';');
  while (semicolon != std::string_view::npos) {
    header = trimmed(header.substr(semicolon + 1));
    const std::size_t equals = header.find('=');
    if (equals == std::string_view::npos) return {};
    const std::string_view key = trimmed(header.substr(0, equals));
    header = trimmed(header.substr(equals + 1));
    std::optional<std::string> value;
    if (header.starts_with('"')) {
      value = take_quoted(header);
      if (!value) return {};
    } else {
      value = std::string(trimmed(header.substr(0, header.find(';'))));
    }
    if (equal_words(key, name)) return value;
    semicolon = header.find(';');
  }
  return {};
}

std::string boundary_of(std::string_view content_type) {
  const std::string boundary = parameter(content_type, "boundary").value_or("");
  const auto is_fit = [](char c) { return c > ' ' && c < 0x7F; };
  if (boundary.empty() || boundary.size() > kMostBoundaryBytes ||
      !std::ranges::all_of(boundary, is_fit)) {
    refuse("its Content-Type has no boundary of 1 to 70 characters");
  }
  return boundary;
}

/// Of one of the part's header lines.
void read_header(std::string_view line, FormPart& part, bool& has_name) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) refuse("a part has a header line without a colon");
  const std::string_view key = trimmed(line.substr(0, colon));
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (equal_words(key, "Content-Transfer-Encoding") && !equal_words(value, "binary") &&
      !equal_words(value, "8bit") && !equal_words(value, "7bit")) {
    refuse("a part has a Content-Transfer-Encoding; send the bytes as they are");
  }
  if (!equal_words(key, "Content-Disposition")) return;
  const auto name = parameter(value, "name");
  if (!equal_words(trimmed(value.substr(0, value.find(';'))), "form-data") || !name) {
    refuse("a part's Content-Disposition is no form-data with a name");
  }
  part.name = *name;
  part.filename = parameter(value, "filename").value_or("");
  has_name = true;
}

/// The header of the part that `rest` begins with; `rest` is moved behind it.
FormPart take_header(std::string_view& rest) {
  FormPart part;
  bool has_name = false;
  const std::string_view window = rest.substr(0, kMostHeaderBytes);
  for (std::size_t begin = 0;;) {
    const std::size_t end = window.find("\r\n", begin);
    if (end == std::string_view::npos) refuse("a part's header has no end within 8 KiB");
    if (end == begin) {
      rest.remove_prefix(end + 2);
      break;
    }
    read_header(window.substr(begin, end - begin), part, has_name);
    begin = end + 2;
  }
  if (!has_name) refuse("a part has no Content-Disposition");
  return part;
}

}  // namespace

bool is_form_type(std::string_view type) {
  return equal_words(trimmed(type.substr(0, type.find(';'))), "multipart/form-data");
}

std::vector<FormPart> parse_form(std::string_view content_type, std::string_view body) {
  const std::string delimiter = "\r\n--" + boundary_of(content_type);
  std::string_view rest = body;
  const std::string_view first = std::string_view(delimiter).substr(2);
  if (!rest.starts_with(first)) refuse("it does not begin with its boundary");
  rest.remove_prefix(first.size());
  std::vector<FormPart> parts;
  while (!rest.starts_with("--")) {
    if (!rest.starts_with("\r\n")) refuse("a boundary is not at the end of its line");
    if (parts.size() == kMostParts) refuse("it has more than 16 parts");
    rest.remove_prefix(2);
    FormPart part = take_header(rest);
    // A part without content has its boundary right behind the header's end.
    const std::string_view bare = std::string_view(delimiter).substr(2);
    const std::size_t end = rest.starts_with(bare) ? 0 : rest.find(delimiter);
    if (end == std::string_view::npos) refuse("a part has no boundary behind it");
    part.content = rest.substr(0, end);
    rest.remove_prefix(rest.starts_with(bare) ? bare.size() : end + delimiter.size());
    parts.push_back(std::move(part));
  }
  if (rest != "--" && rest != "--\r\n") refuse("something stands behind its last boundary");
  return parts;
}

}  // namespace sluice::launcher
