#include "stage/request.h"

namespace sluice::stage {

void HeadLine::ring() noexcept {
  news_ = true;
  bell_.ring();
}

void HeadLine::cancel(std::uint64_t id) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(id);
  }
  ring();
}

void HeadLine::stop() noexcept {
  stopping_ = true;
  ring();
}

void HeadLine::take_cancelled(std::vector<std::uint64_t>& ids) {
  ids.clear();
  const std::lock_guard lock(mutex_);
  ids.swap(cancelled_);
}

}  // namespace sluice::stage
