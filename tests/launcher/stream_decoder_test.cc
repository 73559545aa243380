#include "launcher/tokenizer/stream_decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "kernels/device/error.h"
#include "launcher/tokenizer/utf8.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using Strings = std::vector<std::string>;
using support::byte_id;
using support::kFirstMerge;
using support::small_tokenizer;

Strings push_bytes(StreamDecoder& decoder, const std::string& bytes) {
  Strings parts;
  for (const char byte : bytes) parts.push_back(decoder.push(byte_id(byte)));
  return parts;
}

std::string join(const Strings& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

TEST(StreamDecoder, GivesTextOutAtOnce) {
  const Tokenizer tokenizer = small_tokenizer({{"a", "b"}});
  StreamDecoder decoder(tokenizer, {}, true);
  EXPECT_EQ(decoder.push(kFirstMerge), "ab");
  EXPECT_EQ(decoder.push(byte_id('c')), "c");
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_FALSE(decoder.stopped());
}

TEST(StreamDecoder, HoldsBackUnfinishedCharacters) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder decoder(tokenizer, {}, true);
  EXPECT_EQ(push_bytes(decoder, "\xE2\x82\xAC\xC3x\xF0\x9F"),
            (Strings{"", "", "€", "", "\uFFFDx", "", ""}));
  EXPECT_EQ(decoder.finish(), "\uFFFD");
}

TEST(StreamDecoder, SpecialTokensAreLeftOutOrGiven) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder without(tokenizer, {}, true);
  EXPECT_EQ(without.push(2), "");
  StreamDecoder with(tokenizer, {}, false);
  EXPECT_EQ(with.push(2), "</s>");
}

TEST(StreamDecoder, HoldsBackWhatMayBecomeAStopString) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder decoder(tokenizer, {"END"}, true);
  EXPECT_EQ(push_bytes(decoder, "aEEN"), (Strings{"a", "", "E", ""}));
  EXPECT_EQ(decoder.push(byte_id('x')), "ENx");
  EXPECT_EQ(join(push_bytes(decoder, "EN")), "");
  EXPECT_FALSE(decoder.stopped());
  EXPECT_EQ(decoder.push(byte_id('D')), "");
  EXPECT_TRUE(decoder.stopped());
  EXPECT_EQ(decoder.push(byte_id('z')), "");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, HeldTextComesOutAtTheEnd) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder decoder(tokenizer, {"END"}, true);
  EXPECT_EQ(join(push_bytes(decoder, "xEN")), "x");
  EXPECT_EQ(decoder.finish(), "EN");
  EXPECT_FALSE(decoder.stopped());
}

TEST(StreamDecoder, TheEndItselfMayCompleteAStopString) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder decoder(tokenizer, {"\uFFFD"}, true);
  EXPECT_EQ(join(push_bytes(decoder, "x\xE2\x82")), "x");
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_TRUE(decoder.stopped());
}

TEST(StreamDecoder, AStopStringInsideAToken) {
  const Tokenizer tokenizer = small_tokenizer({{"a", "\n"}, {"a\n", "b"}});
  StreamDecoder decoder(tokenizer, {"\n"}, true);
  EXPECT_EQ(decoder.push(kFirstMerge + 1), "a");
  EXPECT_TRUE(decoder.stopped());
}

TEST(StreamDecoder, StopStringsOfSeveralCharacters) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder decoder(tokenizer, {"é€"}, true);
  EXPECT_EQ(join(push_bytes(decoder, "aéé€b")), "aé");
  EXPECT_TRUE(decoder.stopped());
}

/// What the header says: the stop string complete first, then the longest.
std::string cut(const std::string& text, const Strings& stops, bool& stopped) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop))
        longest = std::max(longest, stop.size());
    }
    stopped = longest > 0;
    if (stopped) return text.substr(0, end - longest);
  }
  return text;
}

TEST(StreamDecoder, TokenBordersChangeNothing) {
  std::mt19937 random(3);
  const Tokenizer tokenizer =
      small_tokenizer({{"a", "b"}, {"b", "a"}, {"ab", "ba"}, {"\xC3", "\xA9"}});
  for (int round = 0; round < 3000; ++round) {
    Strings stops;
    for (auto i = random() % 3; i > 0; --i) {
      std::string stop;
      for (auto n = 1 + random() % 4; n > 0; --n) stop += random() % 2 == 0 ? "a" : "b";
      stops.push_back(stop);
    }
    std::vector<std::int32_t> ids;
    const std::int32_t choices[] = {byte_id('a'),    byte_id('b'),   byte_id('\xC3'),
                                    byte_id('\xA9'), kFirstMerge,    kFirstMerge + 1,
                                    kFirstMerge + 2, kFirstMerge + 3};
    for (auto i = random() % 10; i > 0; --i) ids.push_back(choices[random() % 8]);
    StreamDecoder decoder(tokenizer, stops, true);
    std::string text;
    for (const std::int32_t id : ids) text += decoder.push(id);
    text += decoder.finish();
    bool stopped = false;
    const std::string whole = tokenizer.decode(ids, true);
    ASSERT_EQ(text, cut(whole, stops, stopped)) << whole;
    ASSERT_EQ(decoder.stopped(), stopped);
  }
}

TEST(StreamDecoder, IdsOutsideAreRefused) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder decoder(tokenizer, {}, true);
  EXPECT_THROW(decoder.push(100000), InputError);
}

}  // namespace
}  // namespace sluice::launcher
