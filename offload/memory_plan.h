// Budgets first: every byte of every tier is reserved on paper before anything is loaded, and the
// arenas hold exactly what the paper says.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device/backend.h"
#include "offload/tier.h"

namespace sluice::offload {

struct Budgets {
  PerTier<std::uint64_t> bytes =
      {};  // 0: no limit of ours (the plan may take what the machine has)
};

/// "1.2 GiB", "800.0 MiB", "17 bytes".
std::string human_bytes(std::uint64_t bytes);

/// Host memory of what the host tells a device in every pass: index arrays, page tables, what is
/// sampled. Small, and always pinned: a copy from other memory would stop the stream.
constexpr const char* kControl = "control";

struct Reservation {
  Tier tier;
  std::string purpose;  // "weights", "weight slots", "KV cache", "KV staging", "activations", ...
  std::uint64_t bytes;
};

/// The paper. Plain data: printed, tested and compared with the measured high-water marks.
class MemoryPlan {
 public:
  void reserve(Tier tier, std::string purpose, std::uint64_t bytes);
  const std::vector<Reservation>& reservations() const { return reservations_; }
  std::uint64_t total(Tier tier) const;
  std::uint64_t total(Tier tier, std::string_view purpose) const;

  /// Throws CapacityError naming the first tier that does not fit: bytes wanted by purpose, bytes
  /// there, and the key to change ("stages[1].budget.device"); `where` names the stage ("stage 1").
  void check(const Budgets& budgets, const std::string& where) const;

 private:
  std::vector<Reservation> reservations_;
};

/// One block of a tier's memory, handed out piece by piece at start-up, never given back, never
/// grown. Counts its high-water mark. Device and host tiers only.
class Arena {
 public:
  Arena() = default;
  Arena(Memory memory, std::string name);
  /// 64-byte aligned by default; `alignment` is a power of two up to 4096 (O_DIRECT staging).
  /// Uses exactly arena_bytes(bytes, alignment), so that a plan made of arena_bytes() is met to the
  /// byte. The pieces are as the memory was: not initialised anew.
  /// Throws CapacityError naming the arena and `purpose` when the plan was too small (our own bug).
  std::byte* take(std::uint64_t bytes, const char* purpose, std::size_t alignment = 64);
  std::uint64_t used() const { return used_; }
  std::uint64_t capacity() const { return memory_.bytes(); }

 private:
  Memory memory_;
  std::string name_;
  std::uint64_t used_ = 0;
};

/// Bytes `take` may use for `bytes` at `alignment`: what a plan must reserve for it.
constexpr std::uint64_t arena_bytes(std::uint64_t bytes, std::uint64_t alignment = 64) {
  return (bytes + alignment - 1) / alignment * alignment + (alignment > 64 ? alignment : 0);
}

}  // namespace sluice::offload
