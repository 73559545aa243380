// A job for tests of failures: ranks pass a token round and round, naming each step, and one of
// them may misbehave. It runs until something ends it, so whoever starts it must bring that about.
//
//   fault_program DEADLINE_MS FAULT [RANK]
//     none        run until a signal comes
//     fail        rank RANK calls fail() with status 4 after some passes
//     fail_all    every rank calls fail() with status 4
//     long        rank RANK gets a message that is longer than its receive
//     exit        rank RANK leaves by _exit(7), with no word
//     desert      rank RANK destroys its world while the others go on
//     end         all end after some passes: exit status 0
//     end_failed  all end after some passes: exit status 2
// Each rank prints "ready rank=R pid=P" once the job goes round; on_exit functions print "goodbye".
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstring>
#include <string>

#include "comm/world.h"

namespace sluice::comm {
namespace {

struct Arguments {
  int deadline_ms = 0;
  std::string fault;
  int rank = -1;
};

void print(const std::string& line) {
  if (write(STDOUT_FILENO, line.data(), line.size()) < 0) _exit(9);
}

void say_goodbye(void* argument) noexcept {
  print(fmt::format("goodbye rank={}\n", *static_cast<const int*>(argument)));
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

[[noreturn]] void go_round(World& world, const Arguments& arguments) {
  constexpr int kPassesBeforeFault = 20;
  const bool mine = arguments.rank == world.rank();
  for (int pass = 1;; ++pass) {
    const bool due = pass > kPassesBeforeFault;
    if (due && arguments.fault.starts_with("end")) throw pass;
    if (due && ((mine && arguments.fault == "fail") || arguments.fault == "fail_all")) {
      world.fail(ExitStatus::no_space, "the host tier is 5 bytes too small");
    }
    if (due && mine && arguments.fault == "exit") _exit(7);
    if (due && mine && arguments.fault == "desert") throw pass;
    const bool too_long = due && mine && arguments.fault == "long";
    pass_token(world, pass, too_long ? 100 : 4096);
    if (pass == kPassesBeforeFault) {
      print(fmt::format("ready rank={} pid={}\n", world.rank(), getpid()));
    }
  }
}

int run(const Arguments& arguments) {
  MpiOptions options;
  options.heartbeat = std::chrono::milliseconds(100);
  options.deadline = std::chrono::milliseconds(arguments.deadline_ms);
  try {
    const auto world = make_mpi_world(options);
    int rank = world->rank();
    world->on_exit(&say_goodbye, &rank);
    try {
      go_round(*world, arguments);
    } catch (int) {
      return arguments.fault == "end_failed" ? 2 : 0;
    }
  } catch (const Error& error) {
    print(fmt::format("error: {}\n", error.what()));
    return static_cast<int>(error.status());
  }
}

}  // namespace
}  // namespace sluice::comm

int main(int count, char** values) {
  sluice::comm::Arguments arguments;
  if (count < 3) return 2;
  const char* deadline = values[1];
  std::from_chars(deadline, deadline + std::strlen(deadline), arguments.deadline_ms);
  arguments.fault = values[2];
  if (count > 3) {
    std::from_chars(values[3], values[3] + std::strlen(values[3]), arguments.rank);
  }
  return sluice::comm::run(arguments);
}
