#include "launcher/calibrate/disk_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <thread>

#include "kernels/device/cpu_backend.h"
#include "launcher/config/sizes.h"

namespace sluice::launcher {

DiskRun::DiskRun(const std::filesystem::path& folder, std::size_t bytes)
    : bytes_(bytes),
      engine_(offload::DiskEngine::make({})),
      folder_(folder, ::getpid()),
      memory_(map_memory(bytes, "the measuring of the disk")) {
  std::memset(memory_.data(), 1, bytes);
  const std::filesystem::path file = folder_.path() / "calibrate";
  written_ = engine_->create(file, bytes);
  write(bytes);
  read_ = engine_->open_read(file);
}

template <typename Request>
double DiskRun::rate(std::size_t request, const Request& submit) {
  offload::IoGroup group;
  const auto begin = SteadyClock::now();
  for (std::size_t at = 0; at < bytes_; at += request) {
    submit(at, std::min(request, bytes_ - at), memory_.data() + at, group);
  }
  group.wait();
  return static_cast<double>(bytes_) / seconds_since(begin);
}

double DiskRun::read(std::size_t request) {
  return rate(request, [this](auto at, auto bytes, auto* memory, offload::IoGroup& group) {
    engine_->read(read_, at, bytes, memory, group);
  });
}

double DiskRun::write(std::size_t request) {
  return rate(request, [this](auto at, auto bytes, auto* memory, offload::IoGroup& group) {
    engine_->write(written_, at, bytes, memory, group);
  });
}

namespace {

/// Reads on a thread of its own as long as it lives.
class BusyDisk {
 public:
  explicit BusyDisk(DiskRun& disk) : thread_([this, &disk] { work(disk); }) {}
  ~BusyDisk() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  BusyDisk(const BusyDisk&) = delete;
  BusyDisk& operator=(const BusyDisk&) = delete;

  /// Throws what the reading threw.
  void end() {
    stop_ = true;
    thread_.join();
    if (problem_) std::rethrow_exception(problem_);
  }

 private:
  void work(DiskRun& disk) {
    try {
      while (!stop_) disk.read(std::size_t{4} << 20);
    } catch (...) {
      problem_ = std::current_exception();
    }
  }

  std::atomic<bool> stop_{false};
  std::exception_ptr problem_;
  std::thread thread_;
};

Figure share_beside_disk(DiskRun& disk, ProductRun& products, Sampler& sampler) {
  products.run(1);
  const std::int64_t count = sampler.repeats(products.run(2) / 2);
  const double alone = products.usual(count);
  BusyDisk busy(disk);
  const Figure share = sampler.figure("products of 64 rows, 16-bit weights", [&] {
    return std::clamp(alone / products.run(count), 1e-3, 1.0);
  });
  busy.end();
  return share;
}

}  // namespace

DiskRates measure_disk(const std::filesystem::path& folder, ProductRun* products,
                       Sampler& sampler) {
  DiskRates rates;
  rates.folder = std::filesystem::absolute(folder).string();
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  if (!error) rates.free_bytes = space.available;
  DiskRun disk(folder, sampler.sizes().disk_bytes);
  std::string how = disk.description();
  how.resize(std::min<std::size_t>(how.size(), 60));
  for (const std::size_t request : kDiskRequests) {
    if (request > sampler.sizes().disk_bytes) break;
    const auto size = static_cast<double>(request);
    rates.read.points.push_back({size, sampler.figure(how, [&] { return disk.read(request); })});
    rates.write.points.push_back({size, sampler.figure(how, [&] { return disk.write(request); })});
  }
  if (products != nullptr) rates.product_share = share_beside_disk(disk, *products, sampler);
  return rates;
}

}  // namespace sluice::launcher
