#include "launcher/calibrate/network_rates.h"

#include <fmt/format.h>

#include <cstddef>
#include <vector>

#include "launcher/calibrate/sampler.h"

namespace sluice::launcher {

namespace {

constexpr int kPings = 200;
constexpr int kMessages = 15;
constexpr std::size_t kMessageBytes = std::size_t{4} << 20;
constexpr std::size_t kPingBytes = 64;

/// Rank 0 sends `bytes` and waits for a short answer, so many times; seconds of each.
std::vector<double> rounds(comm::World& world, int partner, std::size_t bytes, int count) {
  std::vector<std::byte> message(bytes, std::byte{1});
  std::vector<std::byte> answer(kPingBytes, std::byte{2});
  std::vector<double> seconds;
  for (int i = 0; i < count; ++i) {
    const auto begin = SteadyClock::now();
    if (world.rank() == 0) {
      const comm::Transfer back = world.receive(comm::Route::hidden, partner, answer);
      world.wait(world.send(comm::Route::hidden, partner, message));
      world.wait(back);
    } else {
      world.wait(world.receive(comm::Route::hidden, 0, message));
      world.wait(world.send(comm::Route::hidden, 0, answer));
    }
    seconds.push_back(seconds_since(begin));
  }
  seconds.erase(seconds.begin());  // the first one made the connection
  return seconds;
}

}  // namespace

NetworkRates measure_network(comm::World& world, int partner, const std::string& date) {
  NetworkRates rates;
  std::vector<double> latencies = rounds(world, partner, kPingBytes, kPings);
  for (double& seconds : latencies) seconds /= 2;
  rates.latency = figure_of(std::move(latencies), date, "half of a message and its answer, MPI");
  std::vector<double> bandwidths;
  for (const double seconds : rounds(world, partner, kMessageBytes, kMessages)) {
    const double moving = std::max(seconds - rates.latency.value, seconds / 2);
    bandwidths.push_back(static_cast<double>(kMessageBytes) / moving);
  }
  rates.bandwidth = figure_of(std::move(bandwidths), date,
                              fmt::format("messages of {} MiB, MPI", kMessageBytes >> 20));
  return rates;
}

Partners find_partners(const comm::World& world) {
  Partners partners;
  const std::string& host = world.hosts().front().name;
  for (int rank = world.size() - 1; rank > 0; --rank) {
    const bool same = world.hosts()[static_cast<std::size_t>(rank)].name == host;
    (same ? partners.within_host : partners.other_host) = rank;
  }
  return partners;
}

}  // namespace sluice::launcher
