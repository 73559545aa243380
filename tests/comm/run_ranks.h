// Runs the ranks of a local job, each on a thread of its own.
#pragma once

#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "comm/world.h"

namespace sluice::comm {

/// Calls body(world) for every rank at once; rethrows what a rank threw, the lowest rank's first.
inline void run_local_ranks(int size, const std::function<void(World&)>& body) {
  const auto worlds = make_local_worlds(size);
  std::vector<std::exception_ptr> thrown(worlds.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < worlds.size(); ++rank) {
      threads.emplace_back([&, rank] {
        try {
          body(*worlds[rank]);
        } catch (...) {
          thrown[rank] = std::current_exception();
        }
      });
    }
  }
  for (const auto& problem : thrown) {
    if (problem) std::rethrow_exception(problem);
  }
}

}  // namespace sluice::comm
