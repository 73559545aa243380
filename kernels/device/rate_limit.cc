#include "kernels/device/rate_limit.h"

#include <algorithm>

namespace sluice {

namespace {
constexpr double kPieceSeconds = 2e-3;
constexpr double kMostNanoseconds = 1e17;  // three years: what is slower cannot be told from it
constexpr std::size_t kLeastPiece = 64 << 10;
constexpr std::size_t kMostPiece = 16 << 20;
}  // namespace

std::size_t RateLimit::piece_bytes() const {
  const double bytes = std::min(gbps_ * 1e9 * kPieceSeconds, static_cast<double>(kMostPiece));
  return std::max(static_cast<std::size_t>(bytes), kLeastPiece);
}

Clock::time_point RateLimit::end_of(std::size_t bytes, Clock::time_point begin) {
  const std::chrono::duration<double, std::nano> duration(
      std::min(static_cast<double>(bytes) / gbps_, kMostNanoseconds));
  end_ = std::max(end_, begin - late_) + std::chrono::duration_cast<Clock::duration>(duration);
  return end_;
}

void RateLimit::resumed(Clock::time_point now) {
  late_ = std::clamp<Clock::duration>(now - end_, Clock::duration::zero(), kMostCredit);
}

}  // namespace sluice
