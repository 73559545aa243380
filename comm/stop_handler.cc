#include "comm/stop_handler.h"

#include <fmt/format.h>

#include <csignal>
#include <utility>

#include "comm/last_words.h"

namespace sluice::comm {

StopCause cause_of(int signal) {
  switch (signal) {
    case SIGTERM:
      return {ExitStatus::stopped, "SIGTERM"};
    case SIGUSR1:
      return {ExitStatus::stopped, "SIGUSR1"};
    case SIGINT:
      return {static_cast<ExitStatus>(128 + SIGINT), "SIGINT"};
    default:
      return {ExitStatus::stopped, "its time limit (--stop-after)"};
  }
}

StopHandler::StopHandler(StopOwner& owner, std::string advice)
    : owner_(owner), advice_(std::move(advice)), watch_([this](int signal) { answer(signal); }) {}

void StopHandler::set_limit(std::chrono::milliseconds limit) {
  if (limit.count() > 0) alarm_in(limit);
}

void StopHandler::on_stop(World::StopFunction function, void* argument) {
  const std::lock_guard lock(mutex_);
  function_ = function;
  argument_ = argument;
  if (!cause_) return;
  function_(argument_);
  alarm_in(times_.head);
}

void StopHandler::forget_stop() {
  const std::lock_guard lock(mutex_);  // held while it runs
  function_ = nullptr;
}

std::optional<ExitStatus> StopHandler::status() const {
  const std::lock_guard lock(mutex_);
  return cause_ ? std::optional(cause_->status) : std::nullopt;
}

void StopHandler::ask(const StopCause& cause) {
  {
    const std::lock_guard lock(mutex_);
    if (cause_) return;
    cause_ = cause;
  }
  if (!owner_.is_head()) {
    owner_.tell_head(cause);
    alarm_in(times_.head + times_.others);
  } else {
    print_error(fmt::format("stopped by {}{}; {}.", cause.text, owner_.doubt(), advice_));
    alarm_in(tell() ? times_.head : times_.without_head);
  }
}

/// False: there is nobody to tell.
bool StopHandler::tell() {
  const std::lock_guard lock(mutex_);
  if (function_ == nullptr) return false;
  function_(argument_);
  return true;
}

void StopHandler::answer(int signal) {
  if (owner_.settles(signal) || signal == SIGCONT) return;
  if (signal == SIGINT && std::exchange(interrupted_, true)) owner_.end(cause_of(signal), true);
  if (signal == SignalWatch::kAlarm && status()) {
    answer_alarm();
  } else {
    ask(cause_of(signal));
  }
}

void StopHandler::answer_alarm() {
  const StopCause cause = *cause_;  // set once, before the alarm
  const bool is_stuck = std::exchange(time_is_over_, true);
  alarm_in(times_.stuck);
  owner_.end(cause, is_stuck);
}

void StopHandler::alarm_in(std::chrono::milliseconds time) noexcept {
  watch_.alarm_at(std::chrono::steady_clock::now() + time);
}

}  // namespace sluice::comm
