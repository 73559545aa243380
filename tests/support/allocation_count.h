// How often operator new was called in this process, by any thread: the tests of "no allocation
// after warm-up" read it. Counted by the one file of a test binary that replaces operator new:
// tests/offload/allocation_count_test.cc.
#pragma once

#include <cstdint>

namespace sluice::testing {

std::int64_t allocation_count();

}  // namespace sluice::testing
