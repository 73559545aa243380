#include "comm/stop_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <deque>

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr milliseconds kNever = std::chrono::hours(1);
constexpr auto kInterrupted = static_cast<ExitStatus>(128 + SIGINT);

/// Keeps what it is asked for, and never ends.
class Owner final : public StopOwner {
 public:
  explicit Owner(bool is_head = true) : is_head_(is_head) {}

  struct Call {
    std::string what;  // "tell", "end", "end at once"
    StopCause cause;
  };
  /// Waits for the next one.
  Call next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !calls_.empty(); });
    Call call = calls_.front();
    calls_.pop_front();
    return call;
  }
  bool has_calls() {
    const std::lock_guard lock(mutex_);
    return !calls_.empty();
  }
  void doubt(std::string text) { doubt_ = std::move(text); }
  void settle(int signal) { settled_ = signal; }

  bool settles(int signal) override { return signal == settled_; }
  bool is_head() const override { return is_head_; }
  std::string doubt() const override { return doubt_; }
  void tell_head(const StopCause& cause) override { add({"tell", cause}); }
  void end(const StopCause& cause, bool at_once) override {
    add({at_once ? "end at once" : "end", cause});
  }

 private:
  void add(const Call& call) {
    {
      const std::lock_guard lock(mutex_);
      calls_.push_back(call);
    }
    changed_.notify_all();
  }

  const bool is_head_;
  std::string doubt_;
  std::atomic<int> settled_{-1};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> calls_;
};

/// A head that counts how often it is told.
struct Head {
  std::mutex mutex;
  std::condition_variable changed;
  int told = 0;

  static void stop(void* head) noexcept {
    auto& self = *static_cast<Head*>(head);
    {
      const std::lock_guard lock(self.mutex);
      ++self.told;
    }
    self.changed.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return told > 0; });
  }
};

StopTimes times(milliseconds head, milliseconds without_head = milliseconds(0)) {
  return {head, milliseconds(0), without_head, milliseconds(1)};
}

TEST(StopHandler, TheHeadIsToldOnceAndTheFirstWishCounts) {
  Owner owner;
  Head head;
  StopHandler handler(owner, "go on");
  handler.set_times(times(kNever));
  handler.on_stop(&Head::stop, &head);
  EXPECT_FALSE(handler.status().has_value());
  handler.ask(cause_of(SIGUSR1));
  handler.ask(cause_of(SIGINT));
  EXPECT_EQ(head.told, 1);
  EXPECT_EQ(handler.status(), ExitStatus::stopped);
  EXPECT_FALSE(owner.has_calls());
}

TEST(StopHandler, OneLineSaysWhyAndHowToGoOn) {
  Owner owner;
  Head head;
  owner.doubt(", or so");
  testing::internal::CaptureStderr();
  StopHandler handler(owner, "run it again");
  handler.set_times(times(kNever));
  handler.on_stop(&Head::stop, &head);
  handler.ask(cause_of(SIGTERM));
  handler.ask(cause_of(SIGTERM));
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "sluice: stopped by SIGTERM, or so; run it again.\n");
}

TEST(StopHandler, SignalsAreWishes) {
  for (const auto& [signal, status] : {std::pair{SIGTERM, ExitStatus::stopped},
                                       {SIGUSR1, ExitStatus::stopped},
                                       {SIGINT, kInterrupted}}) {
    Owner owner;
    Head head;
    StopHandler handler(owner, "");
    handler.set_times(times(kNever));
    handler.on_stop(&Head::stop, &head);
    ASSERT_EQ(kill(getpid(), SIGCONT), 0);  // is none
    ASSERT_EQ(kill(getpid(), signal), 0);
    head.wait();
    EXPECT_EQ(handler.status(), status);
    EXPECT_FALSE(owner.has_calls());
  }
}

TEST(StopHandler, ASecondInterruptEndsTheProcessAtOnce) {
  Owner owner;
  Head head;
  StopHandler handler(owner, "");
  handler.set_times(times(kNever));
  handler.on_stop(&Head::stop, &head);
  ASSERT_EQ(kill(getpid(), SIGINT), 0);
  head.wait();
  ASSERT_EQ(kill(getpid(), SIGINT), 0);
  const Owner::Call call = owner.next();
  EXPECT_EQ(call.what, "end at once");
  EXPECT_EQ(call.cause.status, kInterrupted);
}

TEST(StopHandler, WithoutAHeadTheProcessEnds) {
  Owner owner;
  StopHandler handler(owner, "");
  handler.ask(cause_of(SIGTERM));
  const Owner::Call call = owner.next();
  EXPECT_EQ(call.what, "end");
  EXPECT_EQ(call.cause.status, ExitStatus::stopped);
}

TEST(StopHandler, AHeadThatTakesTooLongIsEnded) {
  Owner owner;
  Head head;
  StopHandler handler(owner, "");
  handler.set_times(times(milliseconds(1)));
  handler.on_stop(&Head::stop, &head);
  handler.ask(cause_of(SIGINT));
  EXPECT_EQ(owner.next().what, "end");
  const Owner::Call last = owner.next();  // and so is an owner that does not end
  EXPECT_EQ(last.what, "end at once");
  EXPECT_EQ(last.cause.status, kInterrupted);
}

TEST(StopHandler, AHeadThatComesLaterIsToldAtOnce) {
  Owner owner;
  Head head;
  StopHandler handler(owner, "");
  handler.set_times(times(kNever, kNever));
  handler.ask(cause_of(SIGTERM));
  handler.on_stop(&Head::stop, &head);
  EXPECT_EQ(head.told, 1);
  EXPECT_FALSE(owner.has_calls());
}

TEST(StopHandler, AHeadThatHasGoneIsNotTold) {
  Owner owner;
  Head head;
  StopHandler handler(owner, "");
  handler.on_stop(&Head::stop, &head);
  handler.forget_stop();
  handler.ask(cause_of(SIGTERM));
  EXPECT_EQ(owner.next().what, "end");
  EXPECT_EQ(head.told, 0);
}

TEST(StopHandler, AnotherRankTellsTheHeadAndEndsIfNothingComesOfIt) {
  Owner owner(false);
  testing::internal::CaptureStderr();
  StopHandler handler(owner, "");
  handler.set_times(times(milliseconds(1)));
  ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
  const Owner::Call told = owner.next();
  EXPECT_EQ(told.what, "tell");
  EXPECT_EQ(told.cause.text, "SIGUSR1");
  EXPECT_EQ(owner.next().what, "end");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");  // the head says it
}

TEST(StopHandler, TheTimeLimitIsAWish) {
  Owner owner;
  Head head;
  testing::internal::CaptureStderr();
  StopHandler handler(owner, "go on");
  handler.set_times(times(kNever));
  handler.on_stop(&Head::stop, &head);
  handler.set_limit(milliseconds(1));
  head.wait();
  EXPECT_EQ(handler.status(), ExitStatus::stopped);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("--stop-after"));
}

TEST(StopHandler, ASignalThatTheOwnerSettlesIsNone) {
  Owner owner;
  Head head;
  StopHandler handler(owner, "");
  handler.set_times(times(kNever));
  handler.on_stop(&Head::stop, &head);
  owner.settle(SIGTERM);
  ASSERT_EQ(kill(getpid(), SIGTERM), 0);
  ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
  head.wait();
  EXPECT_EQ(head.told, 1);
}

}  // namespace
}  // namespace sluice::comm
