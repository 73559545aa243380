// What every world must do, however its ranks are run: threads of one process or a job of MPI.
#pragma once

#include <span>

#include "comm/world.h"

namespace sluice::comm {

/// A law is broken where `check` throws, on any rank. Every rank calls it at the same time.
struct Law {
  const char* name;
  void (*check)(World& world);
};

std::span<const Law> world_laws();

/// A chunk size so small that some messages of the laws are cut.
constexpr std::size_t kLawChunkBytes = 64 * 1024;

}  // namespace sluice::comm
