#include "comm/step_board.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <latch>
#include <thread>
#include <vector>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

std::string board_name() {
  return fmt::format("/sluice-test-{}-{}", getpid(),
                     testing::UnitTest::GetInstance()->current_test_info()->name());
}

TEST(Step, ReadsLikeASentence) {
  EXPECT_EQ(describe(make_step("layer", 17, 5)), "pass 17, layer 5");
  EXPECT_EQ(describe(make_step("sampling", 17, -1)), "pass 17, sampling");
  EXPECT_EQ(describe(make_step("loading", -1, 5)), "loading layer 5");
  EXPECT_EQ(describe(make_step("loading", -1, -1)), "loading");
  EXPECT_EQ(describe(Step{}), "starting");
}

TEST(Step, ATextThatIsTooLongIsCut) {
  EXPECT_EQ(describe(make_step("abcdefghijklmnopqrstuvwxyz", -1, -1)), "abcdefghijklmnopqrstuvw");
}

TEST(StepBoard, OutlivesItsNameAndIsSharedByAllWhoOpenedIt) {
  StepBoard board = StepBoard::create(board_name(), 2);
  StepBoard other = StepBoard::open(board_name(), 2);
  StepBoard::remove_name(board_name());
  EXPECT_THROW(StepBoard::open(board_name(), 2), IoError);

  EXPECT_EQ(describe(other.read(0)), "starting");
  for (int pass = 1; pass <= 3; ++pass) {
    board.write(0, make_step("layer", pass, 5));
    EXPECT_EQ(describe(other.read(0)), fmt::format("pass {}, layer 5", pass));
  }
  EXPECT_EQ(describe(other.read(1)), "starting");
}

TEST(StepBoard, OneNameIsMadeOnce) {
  StepBoard board = StepBoard::create(board_name(), 1);
  EXPECT_THROW(StepBoard::create(board_name(), 1), IoError);
  StepBoard::remove_name(board_name());
  EXPECT_THROW(StepBoard::remove_name(board_name()), IoError);
}

TEST(StepBoard, OneRankOfAHostHasTheLastWord) {
  StepBoard board = StepBoard::create(board_name(), 2);
  StepBoard other = StepBoard::open(board_name(), 2);
  StepBoard::remove_name(board_name());
  EXPECT_EQ(other.last_exit_code(), -1);
  EXPECT_TRUE(board.claim_last_word(4));
  EXPECT_FALSE(other.claim_last_word(5));
  EXPECT_FALSE(board.claim_last_word(5));
  EXPECT_EQ(other.last_exit_code(), 4);
}

TEST(StepBoard, WhoLeavesIsKnown) {
  StepBoard board = StepBoard::create(board_name(), 2);
  StepBoard::remove_name(board_name());
  board.leave(1);
  EXPECT_FALSE(board.left(0));
  EXPECT_TRUE(board.left(1));
}

TEST(StepBoard, TheLastStepOfAKilledProcessIsStillThere) {
  StepBoard board = StepBoard::create(board_name(), 1);
  StepBoard::remove_name(board_name());
  const int child = fork();
  if (child == 0) {
    board.write(0, make_step("layer", 17, 5));
    kill(getpid(), SIGKILL);
  }
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(describe(board.read(0)), "pass 17, layer 5");
}

TEST(StepBoard, AReaderNeverSeesPartsOfTwoSteps) {
  StepBoard board = StepBoard::create(board_name(), 1);
  StepBoard::remove_name(board_name());
  std::atomic<bool> stop{false};
  std::jthread writer([&] {
    for (std::int64_t i = 0; !stop; ++i) {
      board.write(0, make_step(i % 2 == 0 ? "even" : "odd", i, -i));
    }
  });
  for (int i = 0; i < 100000; ++i) {
    const Step step = board.read(0);
    if (step.text[0] == '\0') continue;
    ASSERT_EQ(step.layer, -step.pass);
    ASSERT_EQ(step.text[0], step.pass % 2 == 0 ? 'e' : 'o');
  }
  stop = true;
}

TEST(StepBoard, SeveralThreadsOfARankMayWriteToItsSeat) {
  StepBoard board = StepBoard::create(board_name(), 1);
  StepBoard::remove_name(board_name());
  constexpr int kWriters = 3;
  constexpr std::int64_t kSteps = 1000000;
  std::atomic<int> left{kWriters};
  std::latch all_there(kWriters);
  std::vector<std::jthread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      const char* const texts[kWriters] = {"aaaaaaaaaaaaaaaaaaaaaa", "b", "cccccccccccc"};
      all_there.arrive_and_wait();
      for (std::int64_t i = 0; i < kSteps; ++i) {
        const std::int64_t pass = i * kWriters + writer;
        board.write(0, make_step(texts[writer], pass, -pass));
      }
      --left;
    });
  }
  while (left > 0) {
    const Step step = board.read(0);
    if (step.text[0] == '\0') continue;
    // Parts of two writers' steps would not belong together.
    EXPECT_EQ(step.layer, -step.pass) << describe(step);
    EXPECT_EQ(step.text[0], 'a' + step.pass % kWriters) << describe(step);
  }
  EXPECT_EQ(board.steps(0), kWriters * kSteps) << "two writers took one copy";
}

}  // namespace
}  // namespace sluice::comm
