#include "launcher/tokenizer/stream_decoder.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

/// Bytes at the end of `text` that are the beginning of `stop`, but not all of it.
std::size_t begun(std::string_view text, std::string_view stop) {
  for (std::size_t bytes = std::min(text.size(), stop.size() - 1); bytes > 0; --bytes) {
    if (text.ends_with(stop.substr(0, bytes))) return bytes;
  }
  return 0;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::vector<std::string> stop,
                             bool skip_special)
    : tokenizer_(&tokenizer), stop_(std::move(stop)), skip_special_(skip_special) {}

std::string StreamDecoder::push(std::int32_t id) {
  const std::string& token = tokenizer_->token_bytes(id);
  if (stopped_ || (skip_special_ && tokenizer_->is_special(id))) return {};
  bytes_.append(token);
  held_.append(take_whole(bytes_));
  return release(false);
}

std::string StreamDecoder::finish() {
  if (stopped_) return {};
  held_.append(replace_broken(bytes_));
  bytes_.clear();
  return release(true);
}

std::string StreamDecoder::release(bool all) {
  std::size_t begin = std::string::npos;
  std::size_t end = std::string::npos;
  std::size_t hold = 0;
  for (const std::string& stop : stop_) {
    const std::size_t found = held_.find(stop);
    if (found == std::string::npos) {
      hold = std::max(hold, begun(held_, stop));
    } else if (found + stop.size() < end || (found + stop.size() == end && found < begin)) {
      begin = found;
      end = found + stop.size();
    }
  }
  stopped_ = begin != std::string::npos;
  std::string text = held_.substr(0, stopped_ ? begin : held_.size() - (all ? 0 : hold));
  held_.erase(0, text.size());
  return text;
}

}  // namespace sluice::launcher
