#include "comm/signal_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <future>

namespace sluice::comm {
namespace {

TEST(SignalWatch, AnswersItsSignalsOnAThreadOfItsOwn) {
  for (const int signal : {SIGTERM, SIGINT, SIGCONT}) {
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
