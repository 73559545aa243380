#include "launcher/calibrate/copy_rates.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::launcher {

namespace {

/// One block each of host and device memory, and the way between them.
class CopyRun {
 public:
  CopyRun(Backend& backend, Lane lane, std::size_t bytes, bool pinned)
      : backend_(backend),
        lane_(lane),
        bytes_(bytes),
        host_(backend.allocate_host(bytes, pinned)),
        device_(backend.allocate_device(bytes)) {
    std::fill_n(host_.data(), bytes, std::byte{1});
  }

  void put(std::int64_t count) {
    const bool up = lane_ == Lane::host_to_device;
    for (std::int64_t i = 0; i < count; ++i) {
      backend_.copy(lane_, up ? device_.data() : host_.data(), up ? host_.data() : device_.data(),
                    bytes_);
    }
  }
  double run(std::int64_t count) {
    const auto begin = SteadyClock::now();
    put(count);
    backend_.synchronize(backend_.record(lane_));
    return seconds_since(begin);
  }
  double bytes() const { return static_cast<double>(bytes_); }

 private:
  Backend& backend_;
  Lane lane_;
  std::size_t bytes_;
  Memory host_;
  Memory device_;
};

std::int64_t count_for(double seconds, double each) {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(seconds / each), 1, 400);
}

/// Seconds that `count` of `subject` take on `lane` while `other` has work on its own lane from
/// before their beginning to after their end.
template <typename Subject, typename Other>
double beside(Backend& backend, Lane lane, Subject& subject, std::int64_t count, Other& other,
              std::int64_t others, Lane other_lane) {
  other.put(others);
  const auto begin = SteadyClock::now();
  subject.put(count);
  backend.synchronize(backend.record(lane));
  const double seconds = seconds_since(begin);
  backend.synchronize(backend.record(other_lane));
  return seconds;
}

}  // namespace

LinkRates measure_link(kernels::Engine& engine, Lane lane, ProductRun& products, Sampler& sampler) {
  Backend& backend = *engine.backend;
  const std::size_t bytes = sampler.sizes().copy_bytes;
  const std::string size = fmt::format("{} MiB at a time", bytes >> 20);
  CopyRun copies(backend, lane, bytes, true);
  LinkRates rates;
  rates.alone = sampler.figure(size, [&] { return copies.bytes() / copies.run(1); });
  const double copy = copies.bytes() / rates.alone.value;
  const double product = products.usual(4) / 4;

  // Products for three times as long as the copies take alone: beside products they take longer.
  const double span = std::max(sampler.sizes().sample_seconds, copy);
  const std::int64_t some_copies = count_for(span, copy);
  const std::int64_t many_products =
      count_for(3 * copy * static_cast<double>(some_copies), product);
  rates.computing = sampler.figure(size + ", beside products", [&] {
    return copies.bytes() * static_cast<double>(some_copies) /
           beside(backend, lane, copies, some_copies, products, many_products, Lane::compute);
  });
  const std::int64_t some_products = count_for(span, product);
  const double alone = products.usual(some_products);
  const std::int64_t many_copies = count_for(3 * alone, copy) + 1;
  rates.product_share = sampler.figure("products of few rows, 16-bit weights", [&] {
    const double together =
        beside(backend, Lane::compute, products, some_products, copies, many_copies, lane);
    return std::clamp(alone / together, 1e-3, 1.0);
  });
  if (backend.info().device_bytes > 0) {
    CopyRun pageable(backend, lane, bytes, false);
    rates.pageable =
        sampler.figure(size + ", not pinned", [&] { return pageable.bytes() / pageable.run(1); });
  }
  return rates;
}

double copy_once(kernels::Engine& engine, Lane lane, std::size_t bytes, int times) {
  CopyRun copies(*engine.backend, lane, bytes, true);
  copies.run(1);
  return copies.bytes() * times / copies.run(times);
}

Figure measure_device_memory(kernels::Engine& engine, Sampler& sampler) {
  const LaneMemory memory(*engine.backend, Lane::compute);
  const std::size_t bytes = sampler.sizes().weight_bytes;
  const Memory block = memory.take(bytes);
  return sampler.figure("copies within device memory", [&] {
    constexpr int kTimes = 8;
    const auto begin = SteadyClock::now();
    for (int i = 0; i < kTimes; ++i) {
      engine.backend->copy(Lane::compute, block.data(), block.data() + bytes / 2, bytes / 2);
    }
    memory.finish();
    return kTimes * static_cast<double>(bytes) / seconds_since(begin);
  });
}

void measure_fixed_times(kernels::Engine& engine, Sampler& sampler, DeviceRates& rates) {
  constexpr int kTimes = 100;
  Backend& backend = *engine.backend;
  WeightWalk walk(LaneMemory(backend, Lane::compute), DType::f16, 64, 0);
  ProductRun least(engine, walk, 1);
  rates.operation_seconds = sampler.figure("products of one row with [64, 64]",
                                           [&] { return least.run(kTimes) / kTimes; });
  const Memory host = backend.allocate_host(4096, true);
  const Memory device = backend.allocate_device(4096);
  rates.task_seconds = sampler.figure("copies and products that wait for each other", [&] {
    const auto begin = SteadyClock::now();
    for (int i = 0; i < kTimes; ++i) {
      backend.copy(Lane::host_to_device, device.data(), host.data(), 64);
      backend.wait(Lane::compute, backend.record(Lane::host_to_device));
      least.put(1);
      backend.wait(Lane::host_to_device, backend.record(Lane::compute));
    }
    backend.synchronize(backend.record(Lane::compute));
    const double pair = seconds_since(begin) / kTimes;
    return std::max(pair - rates.operation_seconds.value, 1e-8) / 2;
  });
}

}  // namespace sluice::launcher
