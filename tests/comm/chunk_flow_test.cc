#include "comm/chunk_flow.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::comm {
namespace {

constexpr std::size_t kChunk = 10;

class ChunkFlowTest : public testing::Test {
 protected:
  void push(int slot, std::size_t bytes) {
    flow_.push(slot, Message{true, Route::hidden, 0, data_.data(), bytes});
  }
  void expect_next(int slot, std::ptrdiff_t offset, int bytes) {
    const auto chunk = flow_.next();
    ASSERT_TRUE(chunk.has_value());
    EXPECT_EQ(chunk->slot, slot);
    EXPECT_EQ(chunk->data - data_.data(), offset);
    EXPECT_EQ(chunk->bytes, bytes);
  }
  void expect_nothing_next() { EXPECT_FALSE(flow_.next().has_value()); }

  std::vector<std::byte> data_ = std::vector<std::byte>(1000);
  std::vector<QueuedMessage> queued_ = std::vector<QueuedMessage>(TransferTable::kCapacity);
  ChunkFlow flow_{kChunk, queued_};
};

TEST_F(ChunkFlowTest, ShortMessagesStartBesideEachOtherAndEndInAnyOrder) {
  push(3, 9);
  push(4, 0);
  expect_next(3, 0, 9);
  expect_next(4, 0, 0);
  expect_nothing_next();
  EXPECT_EQ(flow_.finished(4, 0), 0U);
  EXPECT_EQ(flow_.finished(3, 9), 9U);
}

TEST_F(ChunkFlowTest, ALongMessageIsCutAndHoldsBackThoseBehindIt) {
  push(1, 5);
  push(2, 25);
  push(3, 5);
  expect_next(1, 0, 5);
  expect_next(2, 0, 10);
  expect_nothing_next();
  EXPECT_EQ(flow_.finished(1, 5), 5U);
  expect_nothing_next();
  EXPECT_EQ(flow_.finished(2, 10), std::nullopt);
  expect_next(2, 10, 10);
  EXPECT_EQ(flow_.finished(2, 10), std::nullopt);
  expect_next(2, 20, 5);
  expect_nothing_next();
  EXPECT_EQ(flow_.finished(2, 5), 25U);
  expect_next(3, 0, 5);
}

// Otherwise the receiver could not tell it from the beginning of a longer one.
TEST_F(ChunkFlowTest, AMessageOfFullChunksEndsWithAnEmptyOne) {
  push(1, 20);
  expect_next(1, 0, 10);
  EXPECT_EQ(flow_.finished(1, 10), std::nullopt);
  expect_next(1, 10, 10);
  EXPECT_EQ(flow_.finished(1, 10), std::nullopt);
  expect_next(1, 20, 0);
  EXPECT_EQ(flow_.finished(1, 0), 20U);
  expect_nothing_next();
}

TEST_F(ChunkFlowTest, AMessageOfOneFullChunkIsALongOneToo) {
  push(1, 10);
  push(2, 1);
  expect_next(1, 0, 10);
  expect_nothing_next();
  EXPECT_EQ(flow_.finished(1, 10), std::nullopt);
  expect_next(1, 10, 0);
  EXPECT_EQ(flow_.finished(1, 0), 10U);
  expect_next(2, 0, 1);
}

TEST_F(ChunkFlowTest, AReceiveWithMoreRoomEndsWithTheFirstChunkThatIsNotFull) {
  push(1, 100);
  push(2, 100);
  expect_next(1, 0, 10);
  EXPECT_EQ(flow_.finished(1, 3), 3U);
  expect_next(2, 0, 10);
}

TEST_F(ChunkFlowTest, FlowsThatShareTheirQueueKeepTheirOwnOrder) {
  ChunkFlow other(kChunk, queued_);
  for (const int slot : {7, 2, 5}) push(slot, 1);
  for (const int slot : {6, 1}) {
    other.push(slot, Message{true, Route::hidden, 0, data_.data(), 2});
  }
  for (const int slot : {6, 1}) {
    const auto chunk = other.next();
    ASSERT_TRUE(chunk.has_value());
    EXPECT_EQ(chunk->slot, slot);
    EXPECT_EQ(chunk->bytes, 2);
  }
  for (const int slot : {7, 2, 5}) expect_next(slot, 0, 1);
  expect_nothing_next();
  EXPECT_FALSE(other.next().has_value());
}

TEST_F(ChunkFlowTest, TakesAsManyMessagesAsThereAreSlotsAgainAndAgain) {
  for (int round = 0; round < 3; ++round) {
    for (int slot = 0; slot < TransferTable::kCapacity; ++slot) push(slot, 1);
    for (int slot = 0; slot < TransferTable::kCapacity; ++slot) expect_next(slot, 0, 1);
    expect_nothing_next();
  }
}

}  // namespace
}  // namespace sluice::comm
