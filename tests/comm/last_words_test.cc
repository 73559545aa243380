#include "comm/last_words.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
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
                                       heartbeat_, "run it again");
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
            "run it again.");
  EXPECT_EQ(words->silence_of(2, std::chrono::milliseconds(2500), {}),
            "rank 2 (host node, pid 102) has been silent for 2.5 s; its last step was: pass 17, "
            "layer 5. The job ends; run it again.");
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
  const LastWords words(StepBoard::open(name_, 3), {{"a", 1}, {"a", 2}}, neighbours, 0, heartbeat_,
                        "");
  EXPECT_EQ(words.dead_rank(), -1);
}

TEST_F(LastWordsTest, ExitRunsTheFunctionsOnceAndThenEndsTheProcess) {
  static char goodbye[] = "goodbye";
  EXPECT_EXIT(
      {
        const auto words = make(1);
        words->exit_calls().add(&print_goodbye, goodbye);
        words->prepare_exit(ExitStatus::no_space);
        words->exit(ExitStatus::failure);  // too late to change the status
      },
      ExitedWithCode(4), "^sluice: goodbye\n$");
}

TEST_F(LastWordsTest, ASignalWhileAllLiveSettlesNothing) {
  EXPECT_FALSE(make(0)->is_settled());
  EXPECT_EQ(board_.last_exit_code(), -1);
  EXPECT_FALSE(board_.left(0));
}

/// A child that tells who it is, and ends when it is killed.
ProcessId start_child() {
  std::array<int, 2> ends = {};
  if (pipe(ends.data()) != 0) _exit(9);
  ProcessId child;
  if (fork() == 0) {
    child = this_process();
    if (write(ends[1], &child, sizeof child) < 0) _exit(9);
    while (true) pause();
  }
  if (read(ends[0], &child, sizeof child) != sizeof child) _exit(9);
  return child;
}

TEST_F(LastWordsTest, ASignalAfterADeathIsAboutTheDead) {
  const std::vector<Host> hosts = {{"a", 1}, {"a", 2}};
  EXPECT_EXIT(
      {
        const ProcessId child = start_child();
        std::vector<Neighbour> neighbours(2);
        neighbours[0].process = this_process();
        neighbours[1].rank = 1;
        neighbours[1].process = child;
        LastWords words(StepBoard::open(name_, 3), hosts, neighbours, 0, heartbeat_, "go on");
        if (words.is_settled()) _exit(9);
        kill(child.pid, SIGKILL);
        waitpid(child.pid, nullptr, 0);
        words.is_settled();
      },
      ExitedWithCode(5), "^sluice: rank 1 .* died; its last step was: starting. .* go on.\n$");
}

TEST_F(LastWordsTest, AStopOfManyHostsNamesTheRankThatIsSilent) {
  heartbeat_ = {};  // all have missed one, and of other hosts there is rank 3
  EXPECT_THAT(make(0, 4)->reason_elsewhere(),
              testing::StartsWith(", after rank 3 (host node, pid 103) had been silent for 0."));
}

TEST_F(LastWordsTest, AStopOfManyHostsMayHaveAnotherReason) {
  EXPECT_EQ(make(0, 4)->reason_elsewhere(),
            ", by its user or because a process on another host ended");
  EXPECT_EQ(make(0)->reason_elsewhere(), "");
}

TEST_F(LastWordsTest, ASignalAfterAnotherRankSpokeIsAboutWhatItSaid) {
  board_.claim_last_word(5);
  EXPECT_EXIT(make(0)->is_settled(), ExitedWithCode(5), "^$");
}

TEST_F(LastWordsTest, WhatWasSaidBeforeIsNotSaidAgain) {
  EXPECT_EXIT(
      {
        make(0)->say("", ExitStatus::stopped);
        make(1)->is_settled();
      },
      ExitedWithCode(75), "^$");
}

TEST_F(LastWordsTest, ASignalDuringAFailureKeepsTheStatus) {
  EXPECT_EXIT(
      {
        const auto words = make(0);
        words->prepare_exit(ExitStatus::no_space);
        words->is_settled();
      },
      ExitedWithCode(4), "^$");
}

TEST_F(LastWordsTest, ASignalAfterTheNormalEndChangesNothing) {
  const auto words = make(0);
  words->end_normally();
  EXPECT_TRUE(words->is_settled());
  EXPECT_TRUE(board_.left(0));
}

TEST_F(LastWordsTest, AForgottenFunctionDoesNotRun) {
  char goodbye[] = "goodbye";
  char forgotten[] = "forgotten";
  EXPECT_EXIT(
      {
        const auto words = make(1);
        words->exit_calls().add(&print_goodbye, forgotten);
        words->exit_calls().add(&print_goodbye, goodbye);
        words->exit_calls().forget(forgotten);
        words->exit(ExitStatus::failure);
      },
      ExitedWithCode(1), "^sluice: goodbye\n$");
}

TEST_F(LastWordsTest, MoreFunctionsThanThereIsRoomForAreRefused) {
  const auto words = make(0);
  for (int i = 0; i < 8; ++i) words->exit_calls().add(&print_goodbye, nullptr);
  EXPECT_THROW(words->exit_calls().add(&print_goodbye, nullptr), Error);
}

}  // namespace
}  // namespace sluice::comm
