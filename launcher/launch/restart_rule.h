// Whether a run that has ended is started again, and when: from its exit status and from whether it
// brought anything new. No clock, no processes.
#pragma once

#include <chrono>
#include <string>

namespace sluice::launcher {

/// A start that dies before its first pass, as Open MPI 4.1 has them, brings nothing new.
constexpr int kMostIdleRestarts = 5;

class RestartRule {
 public:
  explicit RestartRule(int most) : most_(most) {}

  struct Verdict {
    bool again = false;
    std::chrono::seconds pause{0};  // before it
    int status = 0;                 // of the whole, where not again
    std::string reason;             // what happened, and why not again; empty: nothing to say
  };
  /// A run has ended with `status`, as a shell says it. `has_news`: it brought answers or tokens
  /// that the runs before had not.
  Verdict judge(int status, bool has_news);

  int restarts() const { return restarts_; }

 private:
  const int most_;
  int restarts_ = 0;
  int idle_ = 0;  // restarts in a row that brought nothing new
};

/// "a rank was lost (status 5)", "a rank was ended by signal 9 (status 137)".
std::string cause_of_end(int status);

}  // namespace sluice::launcher
