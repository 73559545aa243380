#include "launcher/launch/restart_rule.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"

namespace sluice::launcher {

namespace {

constexpr int kLongestPause = 60;  // seconds

}  // namespace

std::string cause_of_end(int status) {
  if (status > 128) {
    return fmt::format("a rank was ended by signal {} (status {})", status - 128, status);
  }
  if (status == static_cast<int>(ExitStatus::peer_lost)) {
    return fmt::format("a rank was lost (status {})", status);
  }
  return fmt::format("the run failed (status {})", status);
}

RestartRule::Verdict RestartRule::judge(int status, bool has_news) {
  const auto is = [status](ExitStatus one) { return status == static_cast<int>(one); };
  if (is(ExitStatus::done) || is(ExitStatus::rows_failed) || is(ExitStatus::stopped)) {
    return {false, {}, status, ""};
  }
  if (is(ExitStatus::usage) || is(ExitStatus::bad_input) || is(ExitStatus::no_space)) {
    return {false, {}, status, fmt::format("status {}, which no restart mends", status)};
  }
  // The status of a run without a rank is a rank's, not a signal that this process got.
  const int last = status > 128 ? static_cast<int>(ExitStatus::peer_lost) : status;
  const std::string cause = cause_of_end(status);
  idle_ = has_news ? 0 : idle_ + 1;
  if (restarts_ >= most_) {
    return {false, {}, last, fmt::format("{}, and {} restarts are allowed", cause, most_)};
  }
  if (idle_ > kMostIdleRestarts) {
    return {
        false,
        {},
        last,
        fmt::format("{}, and {} restarts in a row brought nothing new", cause, kMostIdleRestarts)};
  }
  const std::chrono::seconds pause(std::min(1 << std::min(restarts_, 10), kLongestPause));
  ++restarts_;
  return {true, pause, 0, cause};
}

}  // namespace sluice::launcher
