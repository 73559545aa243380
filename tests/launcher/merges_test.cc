#include "launcher/tokenizer/merges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/symbols.h"

namespace sluice::launcher {
namespace {

using Ids = std::vector<std::int32_t>;
using Pair = std::pair<std::int32_t, std::int32_t>;

std::array<std::int32_t, 256> identity() {
  std::array<std::int32_t, 256> tokens = {};
  for (std::size_t i = 0; i < 256; ++i) tokens[i] = static_cast<std::int32_t>(i);
  return tokens;
}

/// Merges over the bytes of words.
class BytePairs {
 public:
  struct Options {
    std::int32_t unknown = -1;
    bool fuse_unknown = false;
    bool merge_in_rounds = true;
  };
  explicit BytePairs(const std::array<std::int32_t, 256>& tokens) : BytePairs(tokens, Options()) {}
  BytePairs(const std::array<std::int32_t, 256>& tokens, Options options)
      : symbols_(tokens, {options.unknown, options.fuse_unknown}),
        in_rounds_(options.merge_in_rounds) {}
  bool add(std::int32_t left, std::int32_t right, std::int32_t product) {
    return merges_.add(left, right, product);
  }
  void append_tokens(std::string_view word, Ids& ids) const {
    Ids tokens;
    symbols_.append(word, tokens);
    merges_.apply(tokens, in_rounds_);
    ids.insert(ids.end(), tokens.begin(), tokens.end());
  }

 private:
  ByteSymbols symbols_;
  Merges merges_;
  bool in_rounds_;
};

Ids tokens_of(const BytePairs& pairs, std::string_view word) {
  Ids ids;
  pairs.append_tokens(word, ids);
  return ids;
}

/// GPT-2's loop, word for word: find the best pair, merge it everywhere, again.
Ids reference(const std::vector<std::pair<Pair, std::int32_t>>& merges, Ids word) {
  while (true) {
    const auto present = [&](const auto& merge) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        if (Pair(word[i], word[i + 1]) == merge.first) return true;
      }
      return false;
    };
    const auto best = std::find_if(merges.begin(), merges.end(), present);
    if (best == merges.end()) return word;
    Ids merged;
    for (std::size_t i = 0; i < word.size(); ++i) {
      if (i + 1 < word.size() && Pair(word[i], word[i + 1]) == best->first) {
        merged.push_back(best->second);
        ++i;
      } else {
        merged.push_back(word[i]);
      }
    }
    word = std::move(merged);
  }
}

TEST(Merges, MergesTheLowestRankFirstAndFromTheLeft) {
  BytePairs pairs(identity());
  EXPECT_TRUE(pairs.add('b', 'c', 256));
  EXPECT_TRUE(pairs.add('a', 'b', 257));
  EXPECT_TRUE(pairs.add('a', 'a', 258));
  EXPECT_EQ(tokens_of(pairs, "abc"), (Ids{'a', 256}));
  EXPECT_EQ(tokens_of(pairs, "ab"), (Ids{257}));
  EXPECT_EQ(tokens_of(pairs, "aaa"), (Ids{258, 'a'}));
  EXPECT_EQ(tokens_of(pairs, "aaaab"), (Ids{258, 'a', 257}));
  EXPECT_EQ(tokens_of(pairs, ""), Ids{});
  EXPECT_EQ(tokens_of(pairs, "\xFF"), (Ids{255}));
}

TEST(Merges, APairHasOneMergeTheLater) {
  BytePairs pairs(identity());
  EXPECT_TRUE(pairs.add('a', 'b', 256));
  EXPECT_TRUE(pairs.add('b', 'c', 258));
  EXPECT_FALSE(pairs.add('a', 'b', 257));
  EXPECT_EQ(tokens_of(pairs, "ab"), (Ids{257}));
  EXPECT_EQ(tokens_of(pairs, "abc"), (Ids{'a', 258}));
}

TEST(Merges, ARoundEndsBeforePairsItMade) {
  // "ab" + "a" has a lower rank than "a" + "b" itself: GPT-2 merges every "a" + "b" first.
  BytePairs pairs(identity());
  pairs.add(257, 'a', 256);
  pairs.add('a', 'b', 257);
  EXPECT_EQ(tokens_of(pairs, "abab"), (Ids{257, 257}));
  EXPECT_EQ(tokens_of(pairs, "abac"), (Ids{256, 'c'}));
}

TEST(Merges, WithoutRoundsALowerRankComesAtOnce) {
  BytePairs pairs(identity(), {.unknown = -1, .fuse_unknown = false, .merge_in_rounds = false});
  pairs.add(257, 'a', 256);
  pairs.add('a', 'b', 257);
  EXPECT_EQ(tokens_of(pairs, "abab"), (Ids{256, 'b'}));
  EXPECT_EQ(tokens_of(pairs, "abac"), (Ids{256, 'c'}));
}

TEST(Merges, BytesWithoutAToken) {
  auto tokens = identity();
  tokens['x'] = tokens['y'] = -1;
  BytePairs dropping(tokens);
  dropping.add('a', 'b', 256);
  EXPECT_EQ(tokens_of(dropping, "axyb"), (Ids{256}));
  EXPECT_EQ(tokens_of(dropping, "xy"), Ids{});
  const BytePairs replacing(tokens, {.unknown = 300, .fuse_unknown = false});
  EXPECT_EQ(tokens_of(replacing, "axybx"), (Ids{'a', 300, 300, 'b', 300}));
  const BytePairs fusing(tokens, {.unknown = 300, .fuse_unknown = true});
  EXPECT_EQ(tokens_of(fusing, "axybx"), (Ids{'a', 300, 'b', 300}));
}

TEST(Merges, AgreesWithTheReferenceOnRandomMerges) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    BytePairs pairs(identity());
    std::vector<std::pair<Pair, std::int32_t>> merges;
    std::int32_t next = 256;
    const auto pick = [&] {
      const auto choice = static_cast<std::int32_t>(random() % static_cast<unsigned>(next - 253));
      return choice < 3 ? 'a' + choice : choice + 253;
    };
    for (int i = 0; i < 30; ++i) {
      const Pair pair(pick(), pick());
      if (!pairs.add(pair.first, pair.second, next)) continue;
      merges.push_back({pair, next++});
    }
    std::shuffle(merges.begin(), merges.end(),
                 random);  // any order of ranks, not only learned ones
    BytePairs shuffled(identity());
    for (const auto& [pair, product] : merges) shuffled.add(pair.first, pair.second, product);
    std::string word;
    for (auto i = random() % 120; i > 0; --i) {  // below and above the length that needs a queue
      word.push_back(static_cast<char>('a' + random() % 3));
    }
    ASSERT_EQ(tokens_of(shuffled, word), reference(merges, Ids(word.begin(), word.end()))) << word;
  }
}

TEST(Merges, AWordOfAMillionBytesIsNotQuadratic) {
  BytePairs pairs(identity());
  pairs.add('a', 'a', 256);
  for (std::int32_t i = 256; i < 264; ++i) pairs.add(i, i, i + 1);
  const Ids ids = tokens_of(pairs, std::string(1 << 20, 'a'));
  EXPECT_EQ(ids, Ids((1 << 20) / 512, 264));
}

}  // namespace
}  // namespace sluice::launcher
