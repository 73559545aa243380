// A job for tests of failures: ranks pass a token round and round, naming each step, and one of
// them may misbehave. It runs until something ends it, so whoever starts it must bring that about.
//
//   fault_program DEADLINE_MS FOLDER FAULT
//     none        nothing of its own: whatever happens, happens to it
//     end         all end after some passes: exit status 0
//     end_failed  all end after some passes: exit status 2
//     fail_all    every rank calls fail() with status 4 after some passes
// These happen to the rank that gets SIGUSR2, whatever it is doing:
//     fail        it calls fail() with status 4
//     exit        it leaves by _exit(7), with no word
//     long        its next message is longer than its receive
//     desert      it destroys its world while the others go on
// Each rank prints "ready rank=R pid=P" once the job goes round, and keeps a file FOLDER/R, which
// its on_exit() function removes.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "comm/world.h"

namespace sluice::comm {
namespace {

constexpr int kPassesBeforeReady = 20;

struct Arguments {
  int deadline_ms = 0;
  std::string folder;
  std::string fault;
};

void print(const std::string& line) {
  if (write(STDOUT_FILENO, line.data(), line.size()) < 0) _exit(9);
}

void remove_file(void* path) noexcept { unlink(static_cast<const std::string*>(path)->c_str()); }

/// Blocked before any thread is made, so that it comes to the thread that waits for it.
void block_user_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) _exit(9);
}

void await_user_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  int signal = 0;
  if (sigwait(&set, &signal) != 0) _exit(9);
}

/// Waits for the signal, then misbehaves, or asks the ring to.
void misbehave(World& world, const std::string& fault, std::atomic<bool>& due) {
  await_user_signal();
  if (fault == "fail") world.fail(ExitStatus::no_space, "the host tier is 5 bytes too small");
  if (fault == "exit") _exit(7);
  due = true;
}

void pass_token(World& world, int pass, std::size_t receive_bytes) {
  const int next = (world.rank() + 1) % world.size();
  const int previous = (world.rank() + world.size() - 1) % world.size();
  std::array<std::byte, 4096> out = {};
  std::array<std::byte, 4096> in = {};
  const Transfer receive =
      world.receive(Route::hidden, previous, std::span(in).first(receive_bytes));
  const Transfer send = world.send(Route::hidden, next, out);
  world.wait(send);
  world.wait(receive);
  // The same step for ever, so that a test knows what the last one was.
  world.step("layer", std::min(pass, 17), 5 + world.rank());
}

/// Returns when this rank's part is over.
void go_round(World& world, const std::string& fault, const std::atomic<bool>& due) {
  for (int pass = 1;; ++pass) {
    if (pass > kPassesBeforeReady && fault.starts_with("end")) return;
    if (pass > kPassesBeforeReady && fault == "fail_all") {
      world.fail(ExitStatus::no_space, "the host tier is 5 bytes too small");
    }
    if (due && fault == "desert") return;
    pass_token(world, pass, due && fault == "long" ? 100 : 4096);
    if (pass == kPassesBeforeReady) {
      print(fmt::format("ready rank={} pid={}\n", world.rank(), getpid()));
    }
  }
}

int run(const Arguments& arguments) {
  block_user_signal();
  MpiOptions options;
  options.heartbeat = std::chrono::milliseconds(100);
  options.deadline = std::chrono::milliseconds(arguments.deadline_ms);
  std::string path;
  std::atomic<bool> due{false};
  try {
    const auto world = make_mpi_world(options);
    path = fmt::format("{}/{}", arguments.folder, world->rank());
    std::ofstream(path) << "a run folder, say\n";
    world->on_exit(&remove_file, &path);
    if (arguments.fault.starts_with("end") || arguments.fault == "fail_all") {
      go_round(*world, arguments.fault, due);
    } else {
      // Left behind when the ring is over: it may wait for a signal that never comes.
      std::thread([&] { misbehave(*world, arguments.fault, due); }).detach();
      go_round(*world, arguments.fault, due);
    }
  } catch (const Error& error) {
    print(fmt::format("error: {}\n", error.what()));
    return static_cast<int>(error.status());
  }
  return arguments.fault == "end_failed" ? 2 : 0;
}

}  // namespace
}  // namespace sluice::comm

int main(int count, char** values) {
  sluice::comm::Arguments arguments;
  if (count != 4) return 2;
  const char* deadline = values[1];
  std::from_chars(deadline, deadline + std::strlen(deadline), arguments.deadline_ms);
  arguments.folder = values[2];
  arguments.fault = values[3];
  return sluice::comm::run(arguments);
}
