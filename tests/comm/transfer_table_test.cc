#include "comm/transfer_table.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "comm/backoff.h"

namespace sluice::comm {
namespace {

TEST(TransferTable, WaitReturnsOnceAnotherThreadCompletes) {
  TransferTable table;
  const Transfer transfer = table.open({});
  std::jthread completing([&] { table.complete(TransferTable::slot_of(transfer), 7); });
  EXPECT_EQ(table.wait(transfer), 7U);
}

TEST(TransferTable, ASlotIsLentAgainUnderAnotherName) {
  TransferTable table;
  const Transfer first = table.open({});
  table.complete(TransferTable::slot_of(first), 1);
  table.wait(first);
  const Transfer second = table.open({});
  EXPECT_EQ(TransferTable::slot_of(second), TransferTable::slot_of(first));
  EXPECT_NE(second.index, first.index);
  EXPECT_THROW(table.done(first, nullptr), Error);
  EXPECT_FALSE(table.done(second, nullptr));
}

TEST(TransferTable, ManyGenerationsLaterNamesAreStillNotNegative) {
  TransferTable table;
  for (int i = 0; i < 300000; ++i) {
    const Transfer transfer = table.open({});
    ASSERT_GE(transfer.index, 0);
    table.complete(TransferTable::slot_of(transfer), 0);
    ASSERT_TRUE(table.done(transfer, nullptr));
  }
}

TEST(TransferTable, AFailureWakesWhoWaitsAndCompletionComesTooLate) {
  TransferTable table;
  const Transfer transfer = table.open({});
  std::jthread failing([&] {
    table.fail("rank 1: gone");
    table.fail("rank 2: gone too");
    table.complete(TransferTable::slot_of(transfer), 1);
  });
  try {
    table.wait(transfer);
    FAIL() << "wait() returned after a failure";
  } catch (const CommError& error) {
    EXPECT_STREQ(error.what(), "rank 1: gone");
  }
  EXPECT_THROW(table.open({}), CommError);
}

TEST(TransferTable, ABellRingsForReceivesOfItsRouteAndForAFailure) {
  TransferTable table;
  Bell bell;
  table.ring_for(Route::results, &bell);
  const auto slot_of = [&](bool sending, Route route) {
    return TransferTable::slot_of(table.open({sending, route, 0, nullptr, 0}));
  };
  table.complete(slot_of(true, Route::results), 0);
  table.complete(slot_of(false, Route::hidden), 0);
  EXPECT_EQ(bell.count(), 0U);
  const int mine = slot_of(false, Route::results);
  std::jthread completing([&] { table.complete(mine, 0); });
  bell.wait(0);
  EXPECT_EQ(bell.count(), 1U);
  table.fail("rank 1: gone");
  EXPECT_EQ(bell.count(), 2U);
  EXPECT_THROW(table.throw_if_failed(), CommError);
  table.ring_for(Route::results, nullptr);
}

TEST(TransferTable, NobodyRingsABellThatWasTakenBack) {
  TransferTable table;
  Bell bell;
  table.ring_for(Route::results, &bell);
  table.ring_for(Route::results, nullptr);
  table.complete(TransferTable::slot_of(table.open({false, Route::results, 0, nullptr, 0})), 0);
  EXPECT_EQ(bell.count(), 0U);
}

TEST(Backoff, SleepsTheLongerTheLongerNothingMoved) {
  using std::chrono::microseconds;
  using std::chrono::milliseconds;
  const Backoff::Time start{std::chrono::seconds(5)};
  Backoff backoff(start);
  EXPECT_EQ(backoff.sleep(start + microseconds(4), true), microseconds(0));
  EXPECT_EQ(backoff.sleep(start + microseconds(6), true), microseconds(20));
  EXPECT_EQ(backoff.sleep(start + microseconds(200), true), microseconds(50));
  EXPECT_EQ(backoff.sleep(start + milliseconds(10), true), microseconds(100));
  EXPECT_EQ(backoff.sleep(start + milliseconds(50), true), microseconds(500));
  EXPECT_EQ(backoff.sleep(start + milliseconds(900), true), microseconds(1000));
  EXPECT_EQ(backoff.sleep(start, false), milliseconds(5));
  backoff.moved(start + milliseconds(10));
  EXPECT_EQ(backoff.sleep(start + milliseconds(10), true), microseconds(0));
}

}  // namespace
}  // namespace sluice::comm
