#include "launcher/tokenizer/stream_decoder.h"

#include <algorithm>
#include <utility>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::vector<std::string> stop,
                             bool skip_special, std::span<const std::int32_t> prompt)
    : tokenizer_(&tokenizer),
      stop_(std::move(stop)),
      skip_special_(skip_special),
      left_out_(tokenizer.decoder().strip_count()) {
  const auto hides = [&](std::int32_t id) {
    return !tokenizer.has_token(id) || (skip_special && tokenizer.is_special(id));
  };
  const auto is_empty = [&](std::int32_t id) {
    return hides(id) || tokenizer.token_bytes(id).empty();
  };
  first_ = std::ranges::all_of(prompt, hides);
  if (!std::ranges::all_of(prompt, is_empty)) left_out_ = 0;
}

std::string StreamDecoder::push(std::int32_t id) {
  const bool hidden = skip_special_ && tokenizer_->is_special(id);
  const std::string& token =
      first_ && !hidden ? tokenizer_->first_token_bytes(id) : tokenizer_->token_bytes(id);
  if (stopped_ || (hidden && stop_.empty())) return {};
  if (!hidden && tokenizer_->has_token(id)) first_ = false;
  if (token.empty()) return {};
  bytes_.append(token);
  marks_.resize(bytes_.size(), hidden ? Mark::hidden : Mark::shown);
  if (hidden) marks_[bytes_.size() - token.size()] = Mark::hidden_begin;
  byte_tokens_.resize(bytes_.size(), tokenizer_->is_byte(id));
  return release(false);
}

std::string StreamDecoder::finish() { return stopped_ ? std::string() : release(true); }

/// Bytes of a reading, with their places in bytes_.
struct StreamDecoder::Bytes {
  std::string text;
  std::vector<std::size_t> places;
  std::vector<bool> byte_tokens;
};

StreamDecoder::Bytes StreamDecoder::collect(bool with_hidden) const {
  Bytes bytes;
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    if (!with_hidden && marks_[i] != Mark::shown) continue;
    bytes.text.push_back(bytes_[i]);
    bytes.places.push_back(i);
    bytes.byte_tokens.push_back(byte_tokens_[i]);
  }
  return bytes;
}

/// Reads characters up to `end`, or up to one that is cut off there and may go on.
void StreamDecoder::read_plain(const Bytes& bytes, std::size_t& at, std::size_t end, bool all,
                               Reading& reading) {
  const std::string_view text(bytes.text);
  while (at < end) {
    const Utf8Part part = first_part(text.substr(at, end - at));
    if (part.kind == Utf8::cut && !all && end == text.size()) return;
    reading.text += part.kind == Utf8::character ? text.substr(at, part.bytes) : kReplacement;
    reading.begin.resize(reading.text.size(), bytes.places[at]);
    reading.end.resize(reading.text.size(), bytes.places[at + part.bytes - 1] + 1);
    at += part.bytes;
  }
}

/// Reads a run of byte tokens, which is text as a whole or not at all.
void StreamDecoder::read_run(const Bytes& bytes, std::size_t& at, std::size_t end, bool all,
                             Reading& reading) {
  const std::string_view run = std::string_view(bytes.text).substr(at, end - at);
  if (is_valid_utf8(run)) {
    read_plain(bytes, at, end, true, reading);
    return;
  }
  if (!all && end == bytes.text.size()) return;
  for (; at < end; ++at) {
    reading.text += kReplacement;
    reading.begin.resize(reading.text.size(), bytes.places[at]);
    reading.end.resize(reading.text.size(), bytes.places[at] + 1);
  }
}

/// Where the whole text begins, some characters are left out.
void StreamDecoder::leave_out(Reading& reading) const {
  const std::string& one = tokenizer_->decoder().stripped();
  for (std::int64_t i = 0; i < left_out_ && reading.text.starts_with(one); ++i) {
    reading.left_out.push_back(reading.end.front());
    const auto bytes = static_cast<std::ptrdiff_t>(one.size());
    reading.text.erase(0, one.size());
    reading.begin.erase(reading.begin.begin(), reading.begin.begin() + bytes);
    reading.end.erase(reading.end.begin(), reading.end.begin() + bytes);
  }
}

/// `all`: nothing follows, so that an unfinished character at the end is a broken one.
StreamDecoder::Reading StreamDecoder::read(bool with_hidden, bool all) const {
  const Bytes bytes = collect(with_hidden);
  const std::size_t size = bytes.text.size();
  const auto place = [&](std::size_t at) { return at < size ? bytes.places[at] : bytes_.size(); };
  Reading reading;
  std::size_t at = 0;
  std::size_t certain = 0;
  while (at < size) {
    const bool run = bytes.byte_tokens[at];
    std::size_t end = at;
    while (end < size && bytes.byte_tokens[end] == run) ++end;
    (run ? read_run : read_plain)(bytes, at, end, all, reading);
    if (!run || all || end < size || at < end) certain = at;
    if (at < end) break;
  }
  reading.rest = place(certain);
  leave_out(reading);
  return reading;
}

bool StreamDecoder::is_within_hidden(std::size_t place) const {
  return place < marks_.size() && marks_[place] == Mark::hidden;
}

/// The first place of `stop` that has no hidden token in part.
StreamDecoder::Match StreamDecoder::find(const Reading& reading, std::string_view stop) const {
  for (std::size_t at = 0; (at = reading.text.find(stop, at)) != std::string::npos; ++at) {
    const Match match = {reading.begin[at], reading.end[at + stop.size() - 1]};
    if (!is_within_hidden(match.begin) && !is_within_hidden(match.end)) return match;
  }
  return {};
}

/// The place where the text's end begins to be `stop`, without being all of it; else the end.
std::size_t StreamDecoder::begun(const Reading& reading, std::string_view stop) const {
  const std::string_view text = reading.text;
  for (std::size_t bytes = std::min(text.size(), stop.size() - 1); bytes > 0; --bytes) {
    const std::size_t place = reading.begin[text.size() - bytes];
    if (text.ends_with(stop.substr(0, bytes)) && !is_within_hidden(place)) return place;
  }
  return reading.rest;
}

void StreamDecoder::look_for_stops(const Reading& reading, Match& first, std::size_t& hold) const {
  for (const std::string& stop : stop_) {
    const Match match = find(reading, stop);
    if (match.begin == std::string::npos) {
      hold = std::min(hold, begun(reading, stop));
    } else if (match.end < first.end || (match.end == first.end && match.begin < first.begin)) {
      first = match;
    }
  }
}

std::string StreamDecoder::shown_before(std::size_t place) const {
  std::string bytes;
  std::vector<bool> byte_tokens;
  for (std::size_t i = 0; i < place; ++i) {
    if (marks_[i] != Mark::shown) continue;
    bytes.push_back(bytes_[i]);
    byte_tokens.push_back(byte_tokens_[i]);
  }
  std::string shown = text_of_bytes(bytes, byte_tokens);
  const std::string& one = tokenizer_->decoder().stripped();
  for (std::int64_t i = 0; i < left_out_ && shown.starts_with(one); ++i) shown.erase(0, one.size());
  return shown;
}

std::string StreamDecoder::release(bool all) {
  const Reading shown = read(false, all);
  Match first;
  std::size_t hold = shown.rest;
  look_for_stops(shown, first, hold);
  if (std::ranges::count(marks_, Mark::shown) < std::ssize(marks_)) {
    look_for_stops(read(true, all), first, hold);
  }
  stopped_ = first.begin != std::string::npos;
  if (stopped_) return shown_before(first.begin);
  if (all) hold = bytes_.size();
  // Characters go out whole, so what is held begins with the one that reaches beyond `hold`.
  const auto count =
      static_cast<std::size_t>(std::ranges::upper_bound(shown.end, hold) - shown.end.begin());
  if (count < shown.text.size()) hold = std::min(hold, shown.begin[count]);
  if (count > 0) left_out_ = 0;
  left_out_ -=
      std::min(left_out_, static_cast<std::int64_t>(std::ranges::count_if(
                              shown.left_out, [&](std::size_t end) { return end <= hold; })));
  bytes_.erase(0, hold);
  marks_.erase(marks_.begin(), marks_.begin() + static_cast<std::ptrdiff_t>(hold));
  byte_tokens_.erase(byte_tokens_.begin(),
                     byte_tokens_.begin() + static_cast<std::ptrdiff_t>(hold));
  return shown.text.substr(0, count);
}

}  // namespace sluice::launcher
