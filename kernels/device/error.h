// The errors of sluice. Every failure that a user can meet is one of these, says in one sentence
// what was wrong, where, and what to do, and knows the exit status the process ends with.
#pragma once

#include <stdexcept>
#include <string>

namespace sluice {

/// Exit statuses of every command; 128+n stands for a signal and is never thrown.
enum class ExitStatus : int {
  done = 0,
  failure = 1,      // at run time: an I/O error, a device error
  usage = 2,        // wrong flag or configuration
  bad_input = 3,    // bad model or input file
  no_space = 4,     // a tier, or a disk, is too small or full
  peer_lost = 5,    // another rank failed or fell silent
  rows_failed = 6,  // the job is done, but some rows failed
  stopped = 75,     // on request (SIGTERM, SIGUSR1, the time limit), with what was made kept
};

/// Base of all. `what()` is the sentence shown to the user, without a trailing newline.
class Error : public std::runtime_error {
 public:
  Error(ExitStatus status, const std::string& sentence)
      : std::runtime_error(sentence), status_(status) {}
  ExitStatus status() const noexcept { return status_; }

 private:
  ExitStatus status_;
};

/// A flag, YAML key or combination that cannot work.
struct ConfigError : Error {
  explicit ConfigError(const std::string& sentence) : Error(ExitStatus::usage, sentence) {}
};

/// A model folder or input file that is missing, damaged or hostile. Names file (and offset, line).
struct InputError : Error {
  explicit InputError(const std::string& sentence) : Error(ExitStatus::bad_input, sentence) {}
};

/// A tier or disk that is too small. Names tier, bytes wanted, bytes there, the key to change.
struct CapacityError : Error {
  explicit CapacityError(const std::string& sentence) : Error(ExitStatus::no_space, sentence) {}
};

/// A read or write that failed at run time. Names path, offset, bytes wanted and got, errno's name.
struct IoError : Error {
  explicit IoError(const std::string& sentence) : Error(ExitStatus::failure, sentence) {}
};

/// A device call that failed. Names the call and the code by name.
struct DeviceError : Error {
  explicit DeviceError(const std::string& sentence) : Error(ExitStatus::failure, sentence) {}
};

/// Another rank failed or fell silent. Names the rank and its last step.
struct CommError : Error {
  explicit CommError(const std::string& sentence) : Error(ExitStatus::peer_lost, sentence) {}
};

}  // namespace sluice
