#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/device/error.h"

namespace sluice::kernels {
namespace {

TEST(ThreadPool, EveryIndexIsDoneOnceByAWorkerThatExists) {
  for (const int threads : {1, 2, 3, 4}) {
    ThreadPool pool(threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> done(static_cast<std::size_t>(count));
      std::atomic<int> strangers{0};
      pool.parallel_for(0, count, [&](std::int64_t index, int worker) {
        done[static_cast<std::size_t>(index)].fetch_add(1);
        // Client 0's thread and the helpers; never the other client.
        if (worker < 0 || worker >= pool.workers() || worker == 1) strangers.fetch_add(1);
      });
      for (const auto& times : done) ASSERT_EQ(times.load(), 1);
      EXPECT_EQ(strangers.load(), 0);
    }
  }
}

TEST(ThreadPool, LoopsAreOverWhenTheyReturnHoweverManyFollow) {
  ThreadPool pool(4);
  std::vector<std::int64_t> sums(64);  // not atomic: each loop must see all of the loop before
  for (std::int64_t round = 0; round < 5000; ++round) {
    pool.parallel_for(0, 64, [&](std::int64_t index, int) {
      auto& sum = sums[static_cast<std::size_t>((index + round) % 64)];
      sum += sum == round ? 1 : -1'000'000;
    });
  }
  for (const std::int64_t sum : sums) EXPECT_EQ(sum, 5000);
}

TEST(ThreadPool, HelpersReallyHelp) {
  ThreadPool pool(3);
  std::barrier all(3);  // passed only by three threads at once
  pool.parallel_for(1, 3, [&](std::int64_t, int) { all.arrive_and_wait(); });
}

TEST(ThreadPool, TwoClientsShareItAndWorkersAreNeverShared) {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> busy(static_cast<std::size_t>(pool.workers()));
  std::atomic<int> clashes{0};
  std::atomic<std::int64_t> total{0};
  const auto client = [&](int number) {
    for (int round = 0; round < 2000; ++round) {
      pool.parallel_for(number, 9, [&](std::int64_t index, int worker) {
        auto& flag = busy[static_cast<std::size_t>(worker)];
        if (flag.exchange(1) != 0) clashes.fetch_add(1);
        total.fetch_add(index);
        flag.store(0);
      });
    }
  };
  std::thread other(client, 1);
  client(0);
  other.join();
  EXPECT_EQ(clashes.load(), 0);
  EXPECT_EQ(total.load(), 2 * 2000 * 36);
}

TEST(ThreadPool, TakesItsShareOfTheCores) {
  EXPECT_GE(default_threads(1), 1);
  EXPECT_EQ(default_threads(1 << 20), 1);
  EXPECT_EQ(default_threads(0), default_threads(1));
  EXPECT_THROW(ThreadPool(0), DeviceError);
}

}  // namespace
}  // namespace sluice::kernels
