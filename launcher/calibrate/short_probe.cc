#include "launcher/calibrate/short_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/device/cpu_backend.h"
#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "launcher/calibrate/memory_walk.h"

namespace sluice::launcher {

namespace {

using Seconds = std::chrono::duration<double>;
constexpr std::size_t kMebibyte = 1 << 20;

/// Best of the rates of `work()`, which does `amount`, repeated for `seconds`; the first call warms
/// up.
template <typename Work>
double best_rate(double amount, double seconds, const Work& work) {
  work();
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto begin = Clock::now();
    work();
    best = std::max(best, amount / Seconds(Clock::now() - begin).count());
  } while (Seconds(Clock::now() - start).count() < seconds);
  return best;
}

/// Closes on every way out.
struct Descriptor {
  int value = -1;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

[[noreturn]] void refuse_read(const std::filesystem::path& file, std::uint64_t offset, int error) {
  throw IoError(fmt::format("{}: cannot be read at offset {} to measure the disk: {}",
                            file.string(), offset, strerrorname_np(error)));
}

}  // namespace

double measure_memory_read(int threads) {
  MemoryWalk walk(threads);
  walk.read();
  double best = 0;
  const auto start = Clock::now();
  do {
    best = std::max(best, walk.read());
  } while (Seconds(Clock::now() - start).count() < 0.25);
  return best;
}

void measure_device(kernels::Engine& engine, stage::MachineRates& rates) {
  Backend& backend = *engine.backend;
  // A GPU is faster than what is small shows.
  const bool is_large = backend.info().device_bytes > 0;
  const std::size_t bytes = (is_large ? 256 : 32) * kMebibyte;
  const Memory on_device = backend.allocate_device(bytes);
  const Memory on_host = backend.allocate_host(bytes, true);
  std::memset(on_host.data(), 0, bytes);
  const auto amount = static_cast<double>(bytes);
  const auto copy = [&](Lane lane, std::byte* target, const std::byte* source, std::size_t count) {
    backend.copy(lane, target, source, count);
    backend.synchronize(backend.record(lane));
  };
  rates.host_to_device = best_rate(
      amount, 0.15, [&] { copy(Lane::host_to_device, on_device.data(), on_host.data(), bytes); });
  rates.device_to_host = best_rate(
      amount, 0.15, [&] { copy(Lane::device_to_host, on_host.data(), on_device.data(), bytes); });
  if (is_large) {  // half of it read, as much written: as fast as reading all of it
    rates.device_read = best_rate(amount, 0.1, [&] {
      copy(Lane::compute, on_device.data(), on_device.data() + bytes / 2, bytes / 2);
    });
  }
  const DType dtype = backend.info().compute_dtype;
  const std::int64_t rows = is_large ? 4096 : 256;
  const std::int64_t width = is_large ? 4096 : 1024;
  const TensorView in = {on_device.data(), dtype, rows, width};
  const TensorView out = {on_device.data() + in.bytes(), dtype, rows, width};
  const TensorView weight = {on_device.data() + 2 * in.bytes(), dtype, width, width};
  const auto number = [](std::int64_t value) { return static_cast<double>(value); };
  rates.flop = best_rate(2.0 * number(rows) * number(width) * number(width), 0.2, [&] {
    engine.device_ops->linear(out, in, {weight, {}}, {}, kernels::Activation::none, {});
    backend.synchronize(backend.record(Lane::compute));
  });
}

stage::MachineRates measure_cpu(int threads) {
  kernels::EngineOptions options;
  options.device = "cpu";
  options.threads = threads;
  kernels::Engine engine = kernels::make_engine(options);
  stage::MachineRates rates;
  measure_device(engine, rates);
  return rates;
}

double measure_disk_read(const std::filesystem::path& file) {
  constexpr std::size_t kReaders = 8;
  constexpr std::size_t kRequest = kMebibyte;
  Descriptor opened{::open(file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC)};
  if (opened.value < 0) {
    if (errno == EINVAL) return 0;  // a file system in memory
    refuse_read(file, 0, errno);
  }
  struct stat status {};
  if (::fstat(opened.value, &status) != 0) refuse_read(file, 0, errno);
  const auto requests = static_cast<std::uint64_t>(status.st_size) / kRequest;
  if (requests < kReaders) return 0;
  const Memory memory = map_memory(kReaders * kRequest, "the probe of the disk");
  std::atomic<std::uint64_t> next{0};
  std::atomic<int> error{0};
  const auto begin = Clock::now();
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] {
      while (Seconds(Clock::now() - begin).count() < 0.4) {
        const std::uint64_t request = next++;
        const auto offset = static_cast<off_t>(request % requests * kRequest);
        if (::pread(opened.value, memory.data() + i * kRequest, kRequest, offset) < 0) {
          error = errno;
          return;
        }
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  const double seconds = Seconds(Clock::now() - begin).count();
  if (error == EINVAL) return 0;
  if (error != 0) refuse_read(file, 0, error);
  return static_cast<double>(next * kRequest) / seconds;
}

int probe_threads(int threads) {
  kernels::EngineOptions options;
  options.device = "cpu";
  options.threads = threads;
  return kernels::make_engine(options).backend->info().threads;
}

}  // namespace sluice::launcher
