#include "comm/exit_calls.h"

#include <fmt/format.h>

#include "kernels/device/error.h"

namespace sluice::comm {

namespace {

constexpr std::size_t kMost = 8;

}  // namespace

void ExitCalls::add(World::ExitFunction function, void* argument) {
  const std::lock_guard lock(mutex_);
  if (calls_.size() == kMost) {
    throw Error(ExitStatus::failure,
                fmt::format("More than {} functions were given to on_exit(); this is a bug of "
                            "sluice.",
                            kMost));
  }
  calls_.push_back({function, argument});
}

void ExitCalls::forget(void* argument) {
  const std::lock_guard lock(mutex_);
  std::erase_if(calls_, [argument](const Call& call) { return call.argument == argument; });
}

void ExitCalls::run() noexcept {
  const std::lock_guard lock(mutex_);
  for (const Call& call : calls_) call.function(call.argument);
  calls_.clear();
}

}  // namespace sluice::comm
