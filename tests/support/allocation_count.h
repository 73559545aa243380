// How often operator new was called in this process, by any thread: the tests of "no allocation
// after warm-up" read it. A test binary that wants it is linked with allocation_count.cc, which
// replaces operator new.
#pragma once

#include <cstdint>

namespace sluice::support {

std::int64_t allocation_count();

}  // namespace sluice::support
