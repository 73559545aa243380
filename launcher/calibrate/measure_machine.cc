#include "launcher/calibrate/measure_machine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "launcher/calibrate/copy_rates.h"
#include "launcher/calibrate/disk_run.h"
#include "launcher/calibrate/kv_walk.h"
#include "launcher/calibrate/memory_walk.h"
#include "launcher/calibrate/operands.h"
#include "launcher/machine/control_groups.h"
#include "launcher/machine/core_share.h"
#include "launcher/planner/machine_fields.h"
#include "launcher/planner/machine_file.h"

namespace sluice::launcher {

namespace {

constexpr std::int64_t kFewRows = 16;  // of the products that run beside copies
constexpr std::int64_t kMoreRows = 64;

/// What the machine has, or the nearest control group gives.
std::uint64_t host_memory() {
  std::uint64_t bytes = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                        static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE));
  for (const GroupLimit& limit : memory_limits()) {
    bytes = std::min(bytes, static_cast<std::uint64_t>(limit.amount));
  }
  return bytes;
}

RateCurve measure_products(kernels::Engine& engine, DType dtype, Sampler& sampler) {
  const CalibrationSizes& sizes = sampler.sizes();
  WeightWalk walk(LaneMemory(*engine.backend, Lane::compute), dtype, sizes.width,
                  sizes.weight_bytes);
  const std::string how = fmt::format("matrices [{0}, {0}] beyond the caches", sizes.width);
  RateCurve curve;
  for (const std::int64_t rows : sizes.rows) {
    ProductRun run(engine, walk, rows);
    run.run(1);
    const std::int64_t count = sampler.repeats(run.run(1));
    curve.points.push_back({static_cast<double>(rows), sampler.figure(how, [&] {
                              return run.flop() * static_cast<double>(count) / run.run(count);
                            })});
  }
  return curve;
}

bool is_gpu(const kernels::Engine& engine) { return engine.backend->info().device_bytes > 0; }

void measure_host(kernels::Engine& engine, Machine& machine, Sampler& sampler) {
  HostRates& host = machine.host;
  host.memory = host_memory();
  host.cores = static_cast<std::int32_t>(own_cores().size());
  const AttentionRates attention = measure_attention(engine, Lane::host_compute, sampler);
  host.decode_attention = attention.decode;
  host.prefill_attention = attention.prefill;
  MemoryWalk walk(is_gpu(engine) ? host.cores : engine.backend->info().threads);
  host.memory_read = sampler.figure("all threads together", [&] { return walk.read(); });
  host.memory_copy = sampler.figure("one thread, memcpy", [&] { return walk.copy(); });
}

void measure_device_rates(kernels::Engine& engine, Machine& machine, Sampler& sampler) {
  DeviceRates& device = machine.device;
  const BackendInfo& info = engine.backend->info();
  device.kind = info.kind;
  device.name = is_gpu(engine) ? info.description : processor_name();
  device.threads = is_gpu(engine) ? 0 : info.threads;
  device.memory = is_gpu(engine) ? info.device_bytes : host_memory();
  device.compute_dtype = info.compute_dtype;
  for (const DType dtype : kMachineDTypes) {
    device.products[dtype] = measure_products(engine, dtype, sampler);
  }
  const AttentionRates attention = measure_attention(engine, Lane::compute, sampler);
  device.decode_attention = attention.decode;
  device.prefill_attention = attention.prefill;
  measure_fixed_times(engine, sampler, device);
}

}  // namespace

Machine measure_machine(kernels::Engine& engine, const std::filesystem::path& folder,
                        Sampler& sampler) {
  Machine machine;
  machine.date = sampler.date();
  measure_device_rates(engine, machine, sampler);
  measure_host(engine, machine, sampler);
  machine.device.memory_read =
      is_gpu(engine) ? measure_device_memory(engine, sampler) : machine.host.memory_read;
  WeightWalk walk(LaneMemory(*engine.backend, Lane::compute), DType::f16, sampler.sizes().width,
                  sampler.sizes().weight_bytes);
  ProductRun few(engine, walk, kFewRows);
  machine.host_to_device = measure_link(engine, Lane::host_to_device, few, sampler);
  machine.device_to_host = measure_link(engine, Lane::device_to_host, few, sampler);
  machine.shares_link = !is_gpu(engine);  // that link is the host's memory
  ProductRun more(engine, walk, kMoreRows);
  machine.disk = measure_disk(folder, is_gpu(engine) ? nullptr : &more, sampler);
  return machine;
}

std::uint64_t figures_to_measure(const kernels::Engine& engine, const CalibrationSizes& sizes) {
  const std::uint64_t types = std::size(kMachineDTypes);
  std::uint64_t disk = 0;
  for (const std::size_t request : kDiskRequests) disk += request > sizes.disk_bytes ? 0 : 2;
  const std::uint64_t attention = 2 * 2 * types;         // decode and prefill, device and host
  const std::uint64_t rest = 2 + 2 + 2 * 3 + disk;       // fixed times, host memory, links, disk
  const std::uint64_t of_kind = is_gpu(engine) ? 3 : 1;  // pageable, its memory; beside the disk
  return types * sizes.rows.size() + attention + rest + of_kind;
}

}  // namespace sluice::launcher
