#include "launcher/tokenizer/stream_decoder.h"

#include <algorithm>
#include <utility>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::vector<std::string> stop,
                             bool skip_special)
    : tokenizer_(&tokenizer), stop_(std::move(stop)), skip_special_(skip_special) {}

std::string StreamDecoder::push(std::int32_t id) {
  const std::string& token = tokenizer_->token_bytes(id);
  const bool hidden = skip_special_ && tokenizer_->is_special(id);
  if (stopped_ || token.empty()) return {};
  if (hidden && stop_.empty()) return {};
  bytes_.append(token);
  marks_.resize(bytes_.size(), hidden ? Mark::hidden : Mark::shown);
  if (hidden) marks_[bytes_.size() - token.size()] = Mark::hidden_begin;
  return release(false);
}

std::string StreamDecoder::finish() { return stopped_ ? std::string() : release(true); }

/// `all`: nothing follows, so that an unfinished character at the end is a broken one.
StreamDecoder::Reading StreamDecoder::read(bool with_hidden, bool all) const {
  std::string bytes;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    if (!with_hidden && marks_[i] != Mark::shown) continue;
    bytes.push_back(bytes_[i]);
    places.push_back(i);
  }
  Reading reading;
  std::string_view left = bytes;
  while (!left.empty()) {
    const Utf8Part part = first_part(left);
    if (part.kind == Utf8::cut && !all) break;
    const std::size_t first = bytes.size() - left.size();
    reading.text += part.kind == Utf8::character ? left.substr(0, part.bytes) : kReplacement;
    reading.begin.resize(reading.text.size(), places[first]);
    reading.end.resize(reading.text.size(), places[first + part.bytes - 1] + 1);
    left.remove_prefix(part.bytes);
  }
  reading.rest = left.empty() ? bytes_.size() : places[bytes.size() - left.size()];
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
  std::string shown;
  for (std::size_t i = 0; i < place; ++i) {
    if (marks_[i] == Mark::shown) shown.push_back(bytes_[i]);
  }
  return replace_broken(shown);
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
  bytes_.erase(0, hold);
  marks_.erase(marks_.begin(), marks_.begin() + static_cast<std::ptrdiff_t>(hold));
  return shown.text.substr(0, count);
}

}  // namespace sluice::launcher
