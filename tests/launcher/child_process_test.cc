#include "launcher/process/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

using Words = std::vector<std::string>;

int end_of(ChildProcess& child, HeldSignals& signals) {
  for (;;) {
    if (const auto end = child.end()) return *end;
    signals.wait(std::nullopt);
  }
}

TEST(ChildProcess, ItsEndIsToldAsAShellDoes) {
  HeldSignals signals;
  ChildProcess done({"sh", "-c", "exit 6"}, signals);
  EXPECT_EQ(end_of(done, signals), 6);
  EXPECT_EQ(done.end(), 6);  // for good
  ChildProcess killed({"sh", "-c", "kill -9 $$"}, signals);
  EXPECT_EQ(end_of(killed, signals), 128 + 9);
}

TEST(ChildProcess, WhatCannotBeStartedIsAnError) {
  HeldSignals signals;
  EXPECT_THROW(ChildProcess({"/no/such/program"}, signals), IoError);
}

TEST(ChildProcess, SignalsToThisProcessAreHeardOneByOne) {
  HeldSignals signals;
  ChildProcess child({"sleep", "1000"}, signals);
  ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
  EXPECT_EQ(signals.wait(std::nullopt), SIGUSR1);
  EXPECT_EQ(signals.wait(std::chrono::milliseconds(0)), std::nullopt);
  EXPECT_EQ(child.end(), std::nullopt);
  child.send(SIGTERM);
  EXPECT_EQ(end_of(child, signals), 128 + SIGTERM);
}

TEST(ChildProcess, BothOutputsGoToTheLog) {
  const std::string log = testing::TempDir() + "/child-" + std::to_string(getpid());
  HeldSignals signals;
  ChildProcess child({"sh", "-c", "cat; echo out; echo err >&2"}, signals, log);
  EXPECT_EQ(end_of(child, signals), 0);
  std::ifstream in(log);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  EXPECT_EQ(text, "out\nerr\n");
  unlink(log.c_str());
}

TEST(ChildProcess, DoesNotOutliveItsParent) {
  // The parent is killed with no chance to end its child; the child holds the pipe open until it
  // ends.
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    HeldSignals signals;
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    const ChildProcess child({"sh", "-c", "echo ready; exec sleep 1000"}, signals);
    for (;;) pause();
  }
  close(ends[1]);
  char text[6] = {};
  ASSERT_EQ(read(ends[0], text, 6), 6);
  kill(parent, SIGKILL);
  EXPECT_EQ(read(ends[0], text, 6), 0);  // all have gone that could write
  close(ends[0]);
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(parent), &info, WEXITED);
}

}  // namespace
}  // namespace sluice::launcher
