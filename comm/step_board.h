// A board in memory shared by the ranks of one host, where each writes what it is doing.
//
// The board outlives its writers: when a rank is killed, any survivor can still read that rank's
// last step. The board also settles who speaks: the first rank of the host to claim the last word
// prints it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace sluice::comm {

struct Step {
  std::array<char, 24> text = {};  // zero-terminated, cut to fit
  std::int64_t pass = -1;          // -1: none
  std::int64_t layer = -1;         // -1: none
};

Step make_step(const char* text, std::int64_t pass, std::int64_t layer);

/// "pass 17, layer 5"; "pass 17, sampling"; "loading layer 5"; "starting" before the first step.
std::string describe(const Step& step);

/// Any thread and any process may call anything on it. Several threads of a rank may write to its
/// seat, by one StepBoard: they wait for each other, and never for another process, which may be
/// killed while it writes.
class StepBoard {
 public:
  /// Makes the board `name` ("/something", as shm_open() has it) for `seats` ranks.
  static StepBoard create(const std::string& name, int seats);
  /// Opens what another rank of this host has created.
  static StepBoard open(const std::string& name, int seats);
  /// Removes the name; the board stays until the last rank has gone. Call it once all ranks have
  /// opened the board: a kill leaves nothing behind then.
  static void remove_name(const std::string& name);

  StepBoard(StepBoard&& other) noexcept;
  StepBoard& operator=(StepBoard&&) = delete;
  ~StepBoard();

  void write(int seat, const Step& step) noexcept;
  Step read(int seat) const noexcept;  // the last one
  /// How many steps were written to the seat.
  std::uint64_t steps(int seat) const noexcept;

  /// This rank ends of its own will: it did not die.
  void leave(int seat) noexcept;
  bool left(int seat) const noexcept;

  /// True for the first caller on this host only: it tells the cause, for which all of them exit
  /// with `exit_code`.
  bool claim_last_word(int exit_code) noexcept;
  /// The claimed one's exit code, or -1.
  int last_exit_code() const noexcept;

 private:
  struct Seat;
  struct Layout;
  StepBoard(const std::string& name, int seats, int open_flags);

  std::unique_ptr<std::mutex> writing_ = std::make_unique<std::mutex>();  // of this process
  Layout* layout_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace sluice::comm
