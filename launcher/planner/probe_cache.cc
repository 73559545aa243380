#include "launcher/planner/probe_cache.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "kernels/device/error.h"
#include "launcher/planner/machine_file.h"

namespace sluice::launcher {

namespace {

constexpr const char* kHow = "a run's short probe";

std::optional<Machine> read_if_sound(const std::filesystem::path& file, MachineParts parts) {
  std::error_code error;
  if (file.empty() || !std::filesystem::exists(file, error)) return std::nullopt;
  try {
    return read_machine_file(file, parts);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// The file system's device, "254-0": what lies on one disk shares its figure. Empty: no such path.
std::string disk_key(const std::filesystem::path& path) {
  struct stat status {};
  if (path.empty() || ::stat(path.c_str(), &status) != 0) return "";
  return fmt::format("{}-{}", major(status.st_dev), minor(status.st_dev));
}

stage::MachineRates rates_of(const Machine& machine) {
  stage::MachineRates rates;
  rates.memory_read = machine.host.memory_read.value;
  rates.host_to_device = machine.host_to_device.alone.value;
  rates.device_to_host = machine.device_to_host.alone.value;
  const auto products = machine.device.products.find(machine.device.compute_dtype);
  if (products == machine.device.products.end()) return rates;
  for (const RateCurve::Point& point : products->second.points) {
    rates.flop = std::max(rates.flop, point.rate.value);
  }
  return rates;
}

}  // namespace

std::filesystem::path ProbeCache::engine_file(int threads) const {
  const std::filesystem::path file = machine_file_path(host_, processor_);
  if (file.empty()) return file;
  return file.parent_path() /
         fmt::format("{}-probe-{}-threads.yaml", file.stem().string(), threads);
}

std::filesystem::path ProbeCache::disk_file(const std::filesystem::path& path) const {
  const std::string key = disk_key(path);
  const std::filesystem::path file = machine_file_path(host_, processor_);
  if (file.empty() || key.empty()) return {};
  return file.parent_path() / fmt::format("{}-probe-disk-{}.yaml", file.stem().string(), key);
}

std::optional<stage::MachineRates> ProbeCache::engine(int threads,
                                                      const std::string& oldest) const {
  const auto measured = read_if_sound(machine_file_path(host_, processor_), MachineParts::all);
  if (measured && measured->device.kind == "cpu" && measured->device.threads == threads) {
    return rates_of(*measured);
  }
  const auto probed = read_if_sound(engine_file(threads), MachineParts::any);
  if (!probed || probed->device.threads != threads || probed->date < oldest) return std::nullopt;
  return rates_of(*probed);
}

std::optional<double> ProbeCache::disk(const std::filesystem::path& path,
                                       const std::string& oldest) const {
  const std::string key = disk_key(path);
  if (key.empty()) return std::nullopt;
  const auto measured = read_if_sound(machine_file_path(host_, processor_), MachineParts::all);
  if (measured && disk_key(measured->disk.folder) == key) {
    return measured->disk.read.points.back().rate.value;
  }
  const auto probed = read_if_sound(disk_file(path), MachineParts::any);
  if (!probed || probed->disk.read.points.empty() || probed->date < oldest) return std::nullopt;
  return probed->disk.read.points.back().rate.value;
}

void ProbeCache::keep_engine(int threads, const stage::MachineRates& rates,
                             const std::string& date) const {
  const std::filesystem::path file = engine_file(threads);
  if (file.empty()) return;  // there is no place to keep it
  Machine machine;
  machine.name = host_;
  machine.date = date;
  machine.device.name = processor_;
  machine.device.kind = "cpu";
  machine.device.threads = threads;
  const auto figure = [&](double value) { return Figure{value, 0, date, kHow}; };
  machine.device.products[DType::f32].points = {{256, figure(rates.flop)}};
  machine.host.memory_read = figure(rates.memory_read);
  machine.host_to_device.alone = figure(rates.host_to_device);
  machine.device_to_host.alone = figure(rates.device_to_host);
  write_machine_file(file, machine, MachineParts::any);
}

void ProbeCache::keep_disk(const std::filesystem::path& path, double read,
                           const std::string& date) const {
  const std::filesystem::path file = disk_file(path);
  if (file.empty() || read <= 0) return;
  Machine machine;
  machine.name = host_;
  machine.date = date;
  const bool folder = std::filesystem::is_directory(path);
  machine.disk.folder = std::filesystem::absolute(folder ? path : path.parent_path()).string();
  machine.disk.read.points = {{1 << 20, Figure{read, 0, date, kHow}}};
  write_machine_file(file, machine, MachineParts::any);
}

}  // namespace sluice::launcher
