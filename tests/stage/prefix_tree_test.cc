#include "stage/prefix_tree.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace sluice::stage {
namespace {

using Tokens = std::vector<std::int32_t>;
constexpr std::int32_t kRoot = -1;
constexpr char kAnyKind[] = {1, 1};

TEST(PrefixTree, FindsPagesByTheirTokensAndThoseBefore) {
  PrefixTree tree(4, 2);
  const std::int32_t a = tree.add(kRoot, 0, Tokens{5, 6}.data());
  const std::int32_t b = tree.add(a, 0, Tokens{7, 8}.data());
  EXPECT_EQ(tree.find(kRoot, 0, Tokens{5, 6}.data()), a);
  EXPECT_EQ(tree.find(a, 0, Tokens{7, 8}.data()), b);
  EXPECT_EQ(tree.find(kRoot, 0, Tokens{7, 8}.data()), PrefixTree::kNone);
  EXPECT_EQ(tree.find(a, 0, Tokens{7, 9}.data()), PrefixTree::kNone);
  EXPECT_EQ(tree.find(kRoot, 1, Tokens{5, 6}.data()), PrefixTree::kNone) << "of another kind";
  EXPECT_EQ(tree.find(kRoot - 1, 0, Tokens{5, 6}.data()), PrefixTree::kNone) << "another root";
}

TEST(PrefixTree, FindsThePageThatBeginsMostAlike) {
  PrefixTree tree(5, 4);
  const std::int32_t a = tree.add(kRoot, 0, Tokens{5, 6, 7, 8}.data());
  const std::int32_t b = tree.add(kRoot, 0, Tokens{5, 6, 1, 2}.data());
  tree.add(kRoot, 1, Tokens{5, 6, 7, 9}.data());
  tree.add(a, 0, Tokens{5, 6, 7, 9}.data());
  const Tokens wanted{5, 6, 7, 9};
  const auto part = [&](std::int32_t most) {
    const PrefixTree::Part found = tree.find_part(kRoot, 0, wanted.data(), most);
    return std::pair(found.page, found.tokens);
  };
  EXPECT_EQ(part(4), std::pair(a, 3));
  EXPECT_EQ(part(2).second, 2);
  EXPECT_EQ(tree.find_part(b, 0, wanted.data(), 3).page, PrefixTree::kNone);
  EXPECT_EQ(tree.find_part(kRoot, 0, wanted.data() + 1, 3).tokens, 0) << "another first token";
  for (const std::int32_t page : {b, a}) tree.leave(page);
  EXPECT_EQ(tree.evict(kAnyKind).page, b);
  EXPECT_EQ(part(4), std::pair(a, 3));
}

TEST(PrefixTree, WhatWasLeftLongestAgoGoesFirstAndFromItsEnd) {
  PrefixTree tree(6, 1);
  const std::int32_t a = tree.add(kRoot, 0, Tokens{1}.data());
  const std::int32_t b = tree.add(a, 0, Tokens{2}.data());
  const std::int32_t c = tree.add(a, 0, Tokens{3}.data());
  EXPECT_FALSE(tree.use(a)) << "c's row has it, too";
  const std::int32_t d = tree.add(kRoot, 1, Tokens{1}.data());
  EXPECT_TRUE(tree.leave(c));
  EXPECT_FALSE(tree.leave(a));
  EXPECT_TRUE(tree.leave(d));
  EXPECT_TRUE(tree.leave(b));
  EXPECT_TRUE(tree.leave(a));
  EXPECT_TRUE(tree.use(a));
  EXPECT_TRUE(tree.use(c));
  EXPECT_TRUE(tree.leave(c));
  EXPECT_TRUE(tree.leave(a));
  constexpr char kFirstKind[] = {1, 0};
  EXPECT_EQ(tree.evict(kFirstKind).page, b) << "d was left before, but is of the other kind";
  EXPECT_EQ(tree.evict(kAnyKind).page, d);
  EXPECT_EQ(tree.evict(kAnyKind).page, c) << "it follows a";
  EXPECT_EQ(tree.evict(kAnyKind).page, a);
  EXPECT_EQ(tree.find(kRoot, 0, Tokens{1}.data()), PrefixTree::kNone);
}

TEST(PrefixTree, EveryPageMayComeAndGo) {
  constexpr std::int32_t kPages = 24;
  PrefixTree tree(kPages, 1);
  std::mt19937 random(5);
  std::int32_t idle = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::int32_t> path;
    const auto length = static_cast<std::int32_t>(random() % 8);
    for (std::int32_t i = 0; i < length; ++i) {
      const auto token = static_cast<std::int32_t>(random() % 3);
      const std::int32_t last = path.empty() ? kRoot : path.back();
      std::int32_t page = tree.find(last, 0, &token);
      if (page != PrefixTree::kNone) {
        idle -= tree.use(page) ? 1 : 0;
      } else {
        // All that are not of this path are idle.
        if (static_cast<std::int32_t>(path.size()) + idle == kPages) {
          tree.evict(kAnyKind);
          --idle;
        }
        page = tree.add(last, 0, &token);
      }
      path.push_back(page);
    }
    for (; !path.empty(); path.pop_back()) idle += tree.leave(path.back()) ? 1 : 0;
    ASSERT_LE(idle, kPages);
  }
  for (; idle > 0; --idle) tree.evict(kAnyKind);
  for (std::int32_t token = 0; token < 3; ++token) {
    EXPECT_EQ(tree.find(kRoot, 0, &token), PrefixTree::kNone);
  }
}

}  // namespace
}  // namespace sluice::stage
