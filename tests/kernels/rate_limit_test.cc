#include "kernels/device/rate_limit.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/device/cpu_backend.h"
#include "kernels/engine.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMegabyte = 1'000'000;
const Clock::time_point kStart = Clock::time_point() + 1h;

TEST(RateLimit, PiecesFollowEachOther) {
  RateLimit link(0.5);  // 2 ms per MB
  EXPECT_EQ(link.end_of(kMegabyte, kStart), kStart + 2ms);
  link.resumed(kStart + 2ms);
  EXPECT_EQ(link.end_of(kMegabyte, kStart + 2ms), kStart + 4ms);
}

TEST(RateLimit, WhatWasNotWaitedForIsNotLost) {
  RateLimit link(1);
  for (int i = 1; i <= 100; ++i) {  // 10 us each, copied in no time, never slept for
    EXPECT_EQ(link.end_of(10'000, kStart), kStart + i * 10us);
    link.resumed(kStart);
  }
}

TEST(RateLimit, AnIdleLinkSavesNothingUp) {
  RateLimit link(1);
  link.end_of(kMegabyte, kStart);
  link.resumed(kStart + 1ms);
  EXPECT_EQ(link.end_of(kMegabyte, kStart + 10s), kStart + 10s + 1ms);
}

TEST(RateLimit, DelaysAreMadeGoodWithinReason) {
  RateLimit link(1);
  link.end_of(kMegabyte, kStart);
  link.resumed(kStart + 6ms);  // slept 5 ms too long
  EXPECT_EQ(link.end_of(kMegabyte, kStart + 6ms), kStart + 2ms);
  link.resumed(kStart + 6ms);
  EXPECT_EQ(link.end_of(10 * kMegabyte, kStart + 6ms), kStart + 12ms);
  link.resumed(kStart + 1h);
  EXPECT_EQ(link.end_of(kMegabyte, kStart + 1h), kStart + 1h + 1ms - RateLimit::kMostCredit);
}

TEST(RateLimit, TheAverageOfUnevenWorkIsTheRate) {
  RateLimit link(2);
  Clock::time_point now = kStart;
  constexpr int kPieces = 1000;
  for (int i = 0; i < kPieces; ++i) {
    const Clock::time_point end = link.end_of(kMegabyte, now);
    now = std::max(now, end) + (i % 7) * 100us;  // sleeps that end late
    link.resumed(now);
  }
  EXPECT_LE(now - kStart, kPieces * 500us + 1ms);
  EXPECT_GE(now - kStart, kPieces * 500us);
}

TEST(RateLimit, PiecesAreOfTwoMillisecondsWithinReason) {
  EXPECT_EQ(RateLimit(1).piece_bytes(), 2 * kMegabyte);
  EXPECT_EQ(RateLimit(1e-6).piece_bytes(), std::size_t{64} << 10);
  EXPECT_EQ(RateLimit(10000).piece_bytes(), std::size_t{16} << 20);
  EXPECT_FALSE(RateLimit(0).limits());
}

TEST(CpuBackend, ALimitedLinkCopiesAllAndIsBusyAsLongAsTheLinkWouldBe) {
  Trace trace(0);
  CpuBackend backend({}, &trace, {1.0, 0});
  constexpr std::size_t kBytes = 5 * kMegabyte + 17;
  const Memory source = backend.allocate_host(kBytes, true);
  const Memory target = backend.allocate_device(kBytes);
  for (std::size_t i = 0; i < kBytes; ++i) source.data()[i] = std::byte(i % 251);
  backend.copy(Lane::host_to_device, target.data(), source.data(), kBytes);
  backend.synchronize(backend.record(Lane::host_to_device));
  EXPECT_EQ(std::memcmp(source.data(), target.data(), kBytes), 0);
  EXPECT_EQ(trace.bytes(Activity::host_to_device), kBytes);
  // A law, not a timing: a sleep never ends early. (The last 200 us need not be waited for.)
  EXPECT_GE(trace.busy_seconds(Activity::host_to_device), 0.0048);
}

}  // namespace
}  // namespace sluice
