#include "comm/last_words.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

using testing::ExitedWithCode;

/// A host with ranks 0, 1 and 2 of a job of `job_size`. All but the dead one are this process.
class LastWordsTest : public testing::Test {
 protected:
  LastWordsTest() : board_(StepBoard::create(name_, 3)) {}
  ~LastWordsTest() override { StepBoard::remove_name(name_); }

  std::unique_ptr<LastWords> make(int local_rank, int job_size = 3) {
    std::vector<Host> hosts;
    for (int rank = 0; rank < job_size; ++rank) hosts.push_back({"node", 100 + rank});
    std::vector<Neighbour> neighbours;
    for (int rank = 0; rank < 3; ++rank) neighbours.push_back({rank, this_process()});
    return std::make_unique<LastWords>(StepBoard::open(name_, 3), hosts, neighbours, local_rank,
                                       heartbeat_);
  }

  // Kept, because a test's forked child has another pid.
  const std::string name_ =
      fmt::format("/sluice-test-{}-{}", getpid(),
                  testing::UnitTest::GetInstance()->current_test_info()->name());
  StepBoard board_;
  std::chrono::milliseconds heartbeat_ = std::chrono::hours(1);  // nobody has missed one
};

void print_goodbye(void* argument) noexcept { print_error(static_cast<const char*>(argument)); }

TEST_F(LastWordsTest, NamesRankHostPidAndStep) {
  const auto words = make(0);
  board_.write(2, make_step("layer", 17, 5));
  EXPECT_EQ(words->death_of(2),
            "rank 2 (host node, pid 102) died; its last step was: pass 17, layer 5. The job ends; "
            "run it again with --resume.");
  EXPECT_EQ(words->silence_of(2, std::chrono::milliseconds(2500), {}),
            "rank 2 (host node, pid 102) has been silent for 2.5 s; its last step was: pass 17, "
            "layer 5. The job ends; run it again with --resume.");
}

TEST_F(LastWordsTest, OfARankOnAnotherHostItTellsWhatWasHeard) {
  const auto words = make(0, 4);
  EXPECT_THAT(
      words->silence_of(3, std::chrono::milliseconds(60000), make_step("sampling", 3, -1)),
      testing::StartsWith(
          "rank 3 (host node, pid 103) has been silent for 60 s; its last step was: pass 3, "
          "sampling."));
}

TEST_F(LastWordsTest, NobodyIsDeadWhileAllLive) { EXPECT_EQ(make(0)->dead_rank(), -1); }

TEST_F(LastWordsTest, ARankThatNobodyCouldEverSeeIsNotDead) {
  std::vector<Neighbour> neighbours{{0, this_process()}, {1, {1 << 30, 1}}};
  const LastWords words(StepBoard::open(name_, 3), {{"a", 1}, {"a", 2}}, neighbours, 0, heartbeat_);
  EXPECT_EQ(words.dead_rank(), -1);
}

TEST_F(LastWordsTest, ExitRunsTheFunctionsOnceAndThenEndsTheProcess) {
  static char goodbye[] = "goodbye";
  EXPECT_EXIT(
      {
        const auto words = make(1);
        words->on_exit(&print_goodbye, goodbye);
        words->prepare_exit(ExitStatus::no_space);
        words->exit(ExitStatus::failure);  // too late to change the status
      },
      ExitedWithCode(4), "^sluice: goodbye\n$");
}

TEST_F(LastWordsTest, AStopIsToldByRankZeroOnly) {
  EXPECT_EXIT(make(0)->on_signal(SIGTERM), ExitedWithCode(143),
              "^sluice: stopped by signal 15; run it again with --resume.\n$");
}

TEST_F(LastWordsTest, AStopOfAnotherRankIsSilent) {
  EXPECT_EXIT(make(1)->on_signal(SIGINT), ExitedWithCode(130), "^$");
}

TEST_F(LastWordsTest, BeingContinuedIsNoReasonToEnd) {
  make(0)->on_signal(SIGCONT);
  EXPECT_EQ(board_.last_exit_code(), -1);
  EXPECT_FALSE(board_.left(0));
}

TEST_F(LastWordsTest, BeingContinuedAfterAnotherRankSpokeEndsAtOnce) {
  board_.claim_last_word(4);
  EXPECT_EXIT(make(0)->on_signal(SIGCONT), ExitedWithCode(4), "^$");
}

TEST_F(LastWordsTest, AStopOfManyHostsMayHaveAnotherReason) {
  EXPECT_EXIT(make(0, 4)->on_signal(SIGTERM), ExitedWithCode(143),
              "a process on another host ended; run it again");
}

TEST_F(LastWordsTest, AStopOfManyHostsNamesTheRankThatIsSilent) {
  heartbeat_ = {};  // all have missed one, and of other hosts there is rank 3
  EXPECT_EXIT(
      make(0, 4)->on_signal(SIGTERM), ExitedWithCode(143),
      "^sluice: stopped by signal 15, after rank 3 \\(host node, pid 103\\) had been silent "
      "for 0.0 s; run it again with --resume.\n$");
}

TEST_F(LastWordsTest, ASignalAfterAnotherRankSpokeIsAboutWhatItSaid) {
  board_.claim_last_word(5);
  EXPECT_EXIT(make(0)->on_signal(SIGTERM), ExitedWithCode(5), "^$");
}

TEST_F(LastWordsTest, ASignalDuringAFailureKeepsTheStatus) {
  EXPECT_EXIT(
      {
        const auto words = make(0);
        words->prepare_exit(ExitStatus::no_space);
        words->on_signal(SIGTERM);
      },
      ExitedWithCode(4), "^$");
}

TEST_F(LastWordsTest, ASignalAfterTheNormalEndChangesNothing) {
  const auto words = make(0);
  words->end_normally();
  words->on_signal(SIGTERM);
  EXPECT_TRUE(board_.left(0));
}

TEST_F(LastWordsTest, AForgottenFunctionDoesNotRun) {
  char goodbye[] = "goodbye";
  char forgotten[] = "forgotten";
  EXPECT_EXIT(
      {
        const auto words = make(1);
        words->on_exit(&print_goodbye, forgotten);
        words->on_exit(&print_goodbye, goodbye);
        words->forget_exit(forgotten);
        words->exit(ExitStatus::failure);
      },
      ExitedWithCode(1), "^sluice: goodbye\n$");
}

TEST_F(LastWordsTest, MoreFunctionsThanThereIsRoomForAreRefused) {
  const auto words = make(0);
  for (int i = 0; i < 8; ++i) words->on_exit(&print_goodbye, nullptr);
  EXPECT_THROW(words->on_exit(&print_goodbye, nullptr), Error);
}

}  // namespace
}  // namespace sluice::comm
