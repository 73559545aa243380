#include "comm/gather.h"

#include <fmt/format.h>

namespace sluice::comm::wire {

void Reader::end() const {
  if (!rest_.empty()) refuse();
}

void Reader::refuse() const {
  throw CommError(fmt::format(
      "rank {} sent {} bytes that this rank cannot read; start the same version of sluice on every "
      "rank",
      rank_, all_.size()));
}

}  // namespace sluice::comm::wire
