#include "launcher/tokenizer/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/tokenizer/byte_alphabet.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

using Kind = DecoderStep::Kind;

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::byte_level:
      return "ByteLevel";
    case Kind::replace:
      return "Replace";
    case Kind::byte_fallback:
      return "ByteFallback";
    case Kind::fuse:
      return "Fuse";
    case Kind::strip:
      return "Strip";
    case Kind::metaspace:
      return "Metaspace";
  }
  return "";
}

/// The byte of a token such as <0x0A>.
std::optional<char> byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return {};
  unsigned int value = 0;
  const auto [end, problem] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  if (problem != std::errc() || end != token.data() + 5) return {};
  return static_cast<char>(value);
}

std::string replaced(const Pattern& pattern, const std::string& content, const std::string& token) {
  std::string made;
  pattern.find(token, [&](Part part) {
    made += part.match ? content : token.substr(part.begin, part.end - part.begin);
  });
  return made;
}

std::string stripped_token(const DecoderStep& step, std::string_view token) {
  for (std::int64_t i = 0; i < step.start && token.starts_with(step.content); ++i) {
    token.remove_prefix(step.content.size());
  }
  for (std::int64_t i = 0; i < step.stop && token.ends_with(step.content); ++i) {
    token.remove_suffix(step.content.size());
  }
  return std::string(token);
}

}  // namespace

Decoder::Decoder(const std::vector<DecoderStep>& steps, const std::string& where)
    : words_(steps.empty()) {
  for (const DecoderStep& step : steps) add(step, where);
}

void Decoder::add(const DecoderStep& step, const std::string& where) {
  const auto refuse = [&](const char* place) {
    throw InputError(
        fmt::format("{}: a decoder step {} {} is not supported", where, name_of(step.kind), place));
  };
  if (step.kind == Kind::fuse) {
    joined_ = true;
    return;
  }
  if (step.kind == Kind::strip && joined_) {
    if (step.stop > 0) refuse("at the end of a whole text");
    if (strip_count_ > 0) refuse("behind another");
    stripped_ = step.content;
    strip_count_ = step.start;
    return;
  }
  if (joined_) refuse("behind Fuse or ByteLevel");
  if (byte_fallback_) refuse("behind ByteFallback");
  if (step.kind == Kind::byte_fallback) {
    byte_fallback_ = true;
    return;
  }
  if (step.kind == Kind::byte_level) {
    if (!edits_.empty()) refuse("behind other steps");
    byte_level_ = joined_ = true;
    return;
  }
  const bool has_pattern = step.kind == Kind::replace;
  edits_.push_back({step, has_pattern ? make_pattern(step.pattern, where) : nullptr});
}

std::string Decoder::edited(const Edit& edit, const std::string& token, bool first) {
  const DecoderStep& step = edit.step;
  if (step.kind == Kind::replace) return replaced(*edit.pattern, step.content, token);
  if (step.kind == Kind::strip) return stripped_token(step, token);
  std::string made;  // metaspace
  for (std::size_t at = 0; at < token.size();) {
    if (token.compare(at, step.content.size(), step.content) != 0) {
      made += token[at++];
      continue;
    }
    if (!(first && step.prepended)) made += ' ';
    at += step.content.size();
  }
  return made;
}

Decoder::TokenText Decoder::text_of(const std::string& token, bool first) const {
  if (words_) return {first ? token : ' ' + token};
  if (byte_level_) return {bytes_of_symbols(token).value_or(token)};
  std::string text = token;
  for (const Edit& edit : edits_) text = edited(edit, text, first);
  if (byte_fallback_) {
    if (const std::optional<char> byte = byte_of(text)) return {std::string(1, *byte), true};
  }
  return {std::move(text)};
}

std::string text_of_bytes(std::string_view bytes, const std::vector<bool>& is_byte) {
  std::string text;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const bool run = at < is_byte.size() && is_byte[at];
    std::size_t end = at;
    while (end < bytes.size() && (end < is_byte.size() && is_byte[end]) == run) ++end;
    const std::string_view part = bytes.substr(at, end - at);
    if (!run || is_valid_utf8(part)) {
      text += replace_broken(part);
    } else {
      for (std::size_t i = 0; i < part.size(); ++i) text += kReplacement;
    }
    at = end;
  }
  return text;
}

std::string describe(const std::vector<DecoderStep>& steps) {
  if (steps.empty()) return "words with blanks between them";
  std::string text;
  for (const DecoderStep& step : steps) {
    text += text.empty() ? "" : ", ";
    switch (step.kind) {
      case Kind::byte_level:
        text += "bytes";
        break;
      case Kind::replace:
        text += fmt::format("\"{}\" becomes \"{}\"", step.pattern.text, step.content);
        break;
      case Kind::byte_fallback:
        text += "byte tokens";
        break;
      case Kind::fuse:
        text += "one text";
        break;
      case Kind::strip:
        text += fmt::format("without {} \"{}\" in front", step.start, step.content);
        break;
      case Kind::metaspace:
        text += fmt::format("\"{}\" becomes a blank", step.content);
        break;
    }
  }
  return text;
}

}  // namespace sluice::launcher
