#include "comm/process_watch.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace sluice::comm {
namespace {

/// A child that sleeps until it is killed.
class Child {
 public:
  Child() : pid_(fork()) {
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      while (true) pause();
    }
  }
  ~Child() {
    if (reaped_) return;
    kill(pid_, SIGKILL);
    reap();
  }
  int pid() const { return pid_; }
  void strike(int signal) { EXPECT_EQ(kill(pid_, signal), 0); }
  /// Returns once the child's state has changed; it stays a zombie if it has ended.
  void await(int change) {
    siginfo_t info;
    EXPECT_EQ(waitid(P_PID, static_cast<id_t>(pid_), &info, change | WNOWAIT), 0);
  }
  void reap() {
    EXPECT_EQ(waitpid(pid_, nullptr, 0), pid_);
    reaped_ = true;
  }

 private:
  int pid_;
  bool reaped_ = false;
};

/// The child's identity: its start time is found by trying those after this process's own.
ProcessId id_of(const Child& child) {
  ProcessId id = this_process();
  id.pid = child.pid();
  for (int ticks = 0; ticks < 1000000 && !is_alive(id); ++ticks) ++id.start_ticks;
  return id;
}

TEST(ProcessWatch, ThisProcessIsAlive) {
  EXPECT_EQ(this_process().pid, getpid());
  EXPECT_TRUE(is_alive(this_process()));
}

TEST(ProcessWatch, AProcessIsAliveUntilItEndsEvenWhileStopped) {
  Child child;
  const ProcessId id = id_of(child);
  EXPECT_TRUE(is_alive(id));
  child.strike(SIGSTOP);
  child.await(WSTOPPED);
  EXPECT_TRUE(is_alive(id));
  child.strike(SIGKILL);
  child.await(WEXITED);
  EXPECT_FALSE(is_alive(id)) << "a zombie is dead";
  child.reap();
  EXPECT_FALSE(is_alive(id));
}

TEST(ProcessWatch, AnotherProcessOfTheSameNumberIsNotTheOneMeant) {
  ProcessId later = this_process();
  ++later.start_ticks;
  EXPECT_FALSE(is_alive(later));
}

TEST(ProcessWatch, ANameWithBracketsAndSpacesConfusesNobody) {
  ASSERT_EQ(prctl(PR_SET_NAME, "a) Z (1 2 3"), 0);
  EXPECT_TRUE(is_alive(this_process()));
  ASSERT_EQ(prctl(PR_SET_NAME, "test_comm"), 0);
}

}  // namespace
}  // namespace sluice::comm
