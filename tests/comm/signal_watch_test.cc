#include "comm/signal_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <future>

namespace sluice::comm {
namespace {

TEST(SignalWatch, AnswersItsSignalsOnAThreadOfItsOwn) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT, SIGCONT}) {
    std::promise<std::pair<int, std::thread::id>> answered;
    const SignalWatch watch([&](int number) {
      answered.set_value({number, std::this_thread::get_id()});
    });
    ASSERT_EQ(kill(getpid(), signal), 0);
    const auto [number, thread] = answered.get_future().get();
    EXPECT_EQ(number, signal);
    EXPECT_NE(thread, std::this_thread::get_id());
  }
}

TEST(SignalWatch, EndsWithoutASignal) {
  const SignalWatch watch([](int) { FAIL() << "nobody sent a signal"; });
}

TEST(SignalWatch, AnAlarmComesOnceAndTheLastOneSetCounts) {
  std::atomic<int> alarms{0};
  std::promise<int> answered;
  SignalWatch watch([&](int number) {
    ++alarms;
    answered.set_value(number);
  });
  const auto now = std::chrono::steady_clock::now();
  watch.alarm_at(now + std::chrono::hours(1));
  watch.alarm_at(now - std::chrono::hours(1));  // what is past is due
  EXPECT_EQ(answered.get_future().get(), SignalWatch::kAlarm);
  EXPECT_EQ(alarms, 1);
}

// In a process of its own, because the mask stays.
TEST(SignalWatch, SignalsStayBlockedAfterwards) {
  EXPECT_EXIT(
      {
        {
          const SignalWatch watch([](int) {});
        }
        raise(SIGTERM);
        _exit(3);
      },
      testing::ExitedWithCode(3), "");
}

}  // namespace
}  // namespace sluice::comm
