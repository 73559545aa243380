// A stand-in for a race checker: what threads of a kernel write and read without a barrier between
// shows as bytes that depend on the order in which they run. Finds races between threads that
// really write different bytes; does not find those that no order of whole runs between barriers
// shows.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "tests/support/cuda_emulation/block.h"

namespace sluice::support {

/// Whether `run`, which makes its own buffers, launches kernels and returns the bytes they wrote,
/// returns the same in every order of threads and blocks.
inline testing::AssertionResult same_in_every_order(
    const std::function<std::vector<std::byte>()>& run) {
  using Kind = RunOrder::Kind;
  const RunOrder before = run_order;
  run_order = {};
  const std::vector<std::byte> wanted = run();
  testing::AssertionResult result = testing::AssertionSuccess();
  for (const RunOrder& order : {RunOrder{Kind::descending, 0}, RunOrder{Kind::shuffled, 1},
                                RunOrder{Kind::shuffled, 2}, RunOrder{Kind::shuffled, 3}}) {
    run_order = order;
    if (run() == wanted) continue;
    result = testing::AssertionFailure()
             << "other bytes when threads run "
             << (order.kind == Kind::descending ? "in descending order" : "shuffled, seed ")
             << (order.kind == Kind::descending ? "" : std::to_string(order.seed));
    break;
  }
  run_order = before;
  return result;
}

}  // namespace sluice::support
