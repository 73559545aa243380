#include "launcher/calibrate/memory_walk.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/device/cpu_backend.h"
#include "launcher/calibrate/sampler.h"

namespace sluice::launcher {

namespace {

constexpr std::size_t kMebibyte = 1 << 20;

std::uint64_t read_all(const std::byte* bytes, std::size_t count) {
  constexpr std::size_t kWords = 16;
  std::uint64_t sums[kWords] = {};
  for (std::size_t i = 0; i + sizeof(sums) <= count; i += sizeof(sums)) {
    std::uint64_t words[kWords];
    std::memcpy(words, bytes + i, sizeof(words));
    for (std::size_t w = 0; w < kWords; ++w) sums[w] ^= words[w];
  }
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all ^= sum;
  return all;
}

}  // namespace

MemoryWalk::MemoryWalk(int threads)
    : threads_(static_cast<std::size_t>(std::max(threads, 1))),
      part_(std::max(32 * kMebibyte, 128 * kMebibyte / threads_)),
      memory_(map_memory(threads_ * part_, "the measuring of memory")) {
  std::memset(memory_.data(), 1, memory_.bytes());
}

double MemoryWalk::read() {
  std::atomic<std::uint64_t> sum{0};
  const auto begin = SteadyClock::now();
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < threads_; ++i) {
    readers.emplace_back([&, i] { sum += read_all(memory_.data() + i * part_, part_); });
  }
  for (std::thread& reader : readers) reader.join();
  return static_cast<double>(memory_.bytes()) / seconds_since(begin);
}

double MemoryWalk::copy() {
  const std::size_t half = memory_.bytes() / 2;
  const auto begin = SteadyClock::now();
  std::memcpy(memory_.data(), memory_.data() + half, half);
  return static_cast<double>(half) / seconds_since(begin);
}

}  // namespace sluice::launcher
