// How fast this machine reads memory: the limit of benchmarks that only read. Measure it in the
// same run and in turn with them, because other jobs of the host change it by tens of percent
// within a minute.
#pragma once

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

namespace sluice::bench {

/// Reads every whole cache line of `bytes` once; the result only keeps the reads from vanishing.
inline std::uint64_t read_all(std::span<const std::byte> bytes) {
  constexpr std::size_t kWords = 16;
  std::uint64_t sums[kWords] = {};
  for (std::size_t i = 0; i + sizeof(sums) <= bytes.size(); i += sizeof(sums)) {
    std::uint64_t words[kWords];
    std::memcpy(words, bytes.data() + i, sizeof(words));
    for (std::size_t word = 0; word < kWords; ++word) sums[word] ^= words[word];
  }
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all ^= sum;
  return all;
}

/// Bytes per second that `threads` threads together read of `bytes`, each its own part, from the
/// first one's start to the last one's end. `bytes` should be far beyond the caches
/// (some hundred MB) and were written before, or they are not in memory.
inline double read_bandwidth(std::span<const std::byte> bytes, int threads) {
  using Clock = std::chrono::steady_clock;
  const auto count = static_cast<std::size_t>(threads);
  const std::size_t part = bytes.size() / count;
  std::atomic<std::uint64_t> sum{0};
  std::barrier start(threads);
  std::vector<Clock::time_point> begins(count);
  std::vector<Clock::time_point> ends(count);
  std::vector<std::thread> readers;
  readers.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    readers.emplace_back([&, i] {
      start.arrive_and_wait();
      begins[i] = Clock::now();
      sum.fetch_add(read_all(bytes.subspan(i * part, part)));
      ends[i] = Clock::now();
    });
  }
  for (std::thread& reader : readers) reader.join();
  const auto begin = *std::min_element(begins.begin(), begins.end());
  const auto end = *std::max_element(ends.begin(), ends.end());
  return static_cast<double>(part * count) / std::chrono::duration<double>(end - begin).count();
}

}  // namespace sluice::bench
