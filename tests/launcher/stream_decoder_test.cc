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

TEST(StreamDecoder, StopStringsWithSpecialTokensThatAreLeftOut) {
  const Tokenizer tokenizer = small_tokenizer();
  const auto text_of = [&](const std::string& stop, const std::vector<std::int32_t>& ids) {
    StreamDecoder decoder(tokenizer, {stop}, true);
    std::string text;
    for (const std::int32_t id : ids) text += decoder.push(id);
    text += decoder.finish();
    return text + (decoder.stopped() ? "|" : "");
  };
  constexpr std::int32_t kA = support::kFirstByte + 'a';
  constexpr std::int32_t kB = support::kFirstByte + 'b';
  EXPECT_EQ(text_of("</s>", {kA, 1, 2, kB}), "a|");
  EXPECT_EQ(text_of("<pad></s>", {kA, 1, 1, 2, kB}), "a|");
  EXPECT_EQ(text_of("a</s>b", {kB, kA, 2, kB}), "b|");
  EXPECT_EQ(text_of("a</s>b", {kB, kA, 2, kA}), "baa");
  // The text as it is given out is searched too, but no part of a token that is not in it.
  EXPECT_EQ(text_of("ab", {kA, 2, kB}), "|");
  EXPECT_EQ(text_of("s>", {kA, 2, kB}), "ab");
  EXPECT_EQ(text_of("a<", {kA, 2, kB}), "ab");
}

TEST(StreamDecoder, ACharacterMayHaveSpecialTokensWithinIt) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder decoder(tokenizer, {"</s>!", "never"}, true);
  std::string text;
  for (const std::int32_t id : {byte_id('\xE2'), 2, byte_id('\x82'), 2, byte_id('\xAC')}) {
    text += decoder.push(id);
  }
  EXPECT_EQ(text + decoder.finish(), "\u20AC");
}

/// What the header says of special tokens, for ASCII: the first stop string that is complete in the
/// text with or without them, no hidden token in part.
std::string cut_with_hidden(const std::string& kept, const std::vector<int>& marks,
                            const Strings& stops) {
  std::string shown;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    if (marks[i] != 0) continue;
    shown.push_back(kept[i]);
    places.push_back(i);
  }
  std::pair<std::size_t, std::size_t> first = {std::string::npos, 0};  // end, begin
  for (const std::string& stop : stops) {
    for (std::size_t at = 0; (at = kept.find(stop, at)) != std::string::npos; ++at) {
      const std::size_t end = at + stop.size();
      if (marks[at] != 2 && (end == kept.size() || marks[end] != 2)) {
        first = std::min(first, {end, at});
      }
    }
    const std::size_t at = shown.find(stop);
    if (at == std::string::npos) continue;
    first = std::min(first, {places[at + stop.size() - 1] + 1, places[at]});
  }
  std::string text;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    if (marks[i] == 0 && (first.first == std::string::npos || i < first.second)) text += kept[i];
  }
  return text;
}

TEST(StreamDecoder, SpecialTokensAtRandomPlaces) {
  std::mt19937 random(11);
  const Tokenizer tokenizer = small_tokenizer({{"a", "b"}});
  const Strings choices = {"a", "ab", "</s>", "a</s>", "</s>b", "s>", "b</s><pad>", "aba"};
  for (int round = 0; round < 3000; ++round) {
    Strings stops;
    for (auto i = random() % 3; i > 0; --i) stops.push_back(choices[random() % choices.size()]);
    StreamDecoder decoder(tokenizer, stops, true);
    std::string kept;
    std::string text;
    std::vector<int> marks;  // by byte of `kept`: 0 shown, 1 the first of a hidden token, 2 another
    for (auto i = random() % 10; i > 0; --i) {
      const std::int32_t ids[] = {byte_id('a'), byte_id('b'), kFirstMerge, 1, 2};
      const std::int32_t id = ids[random() % 5];
      text += decoder.push(id);
      const std::string& bytes = tokenizer.token_bytes(id);
      kept += bytes;
      marks.resize(kept.size(), tokenizer.is_special(id) ? 2 : 0);
      if (tokenizer.is_special(id)) marks[kept.size() - bytes.size()] = 1;
    }
    text += decoder.finish();
    ASSERT_EQ(text, cut_with_hidden(kept, marks, stops)) << kept;
  }
}

TEST(StreamDecoder, IdsOutsideAreRefused) {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder decoder(tokenizer, {}, true);
  EXPECT_THROW(decoder.push(100000), InputError);
}

}  // namespace
}  // namespace sluice::launcher
