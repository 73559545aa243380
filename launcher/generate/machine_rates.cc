#include "launcher/generate/machine_rates.h"

#include <fmt/format.h>

#include <chrono>
#include <exception>
#include <iostream>

#include "comm/gather.h"
#include "launcher/calibrate/short_probe.h"
#include "launcher/planner/machine_file.h"
#include "launcher/planner/probe_cache.h"
#include "offload/checkpoint/gguf_file.h"

namespace sluice::launcher {

namespace {

constexpr std::int64_t kKeptSeconds = 30LL * 24 * 3600;

/// Of a whole host, and what went wrong.
struct FoundRates {
  bool asked = false;  // by this rank: one of each host does
  stage::MachineRates rates;
  std::string problem;

  static auto fields(auto& self) {
    auto& rates = self.rates;
    return std::tie(self.asked, rates.memory_read, rates.flop, rates.host_to_device,
                    rates.device_to_host, rates.disk_read, self.problem);
  }
};

/// When a rate is asked for, and what may answer.
struct Question {
  std::int64_t now = 0;   // seconds since 1970
  bool measures = false;  // what is not known
  bool again = false;     // nothing counts as known

  std::string today() const { return date_of(now); }
  std::string oldest() const { return date_of(now - kKeptSeconds); }
};

void find_engine(const ProbeCache& cache, int threads, const Question& question, FoundRates& host) {
  std::optional<stage::MachineRates> known;
  if (!question.again) known = cache.engine(threads, question.oldest());
  if (!known && question.measures) {
    known = measure_cpu(threads);
    known->memory_read = measure_memory_read(std::max(threads, 1));
    host.rates = *known;
    cache.keep_engine(threads, *known, question.today());
  }
  if (known) host.rates = *known;
}

void find_disk(const ProbeCache& cache, const std::filesystem::path& path, const Question& question,
               FoundRates& host) {
  if (path.empty()) return;
  std::optional<double> known;
  if (!question.again) known = cache.disk(path, question.oldest());
  if (!known && question.measures) {
    known = measure_disk_read(path);
    host.rates.disk_read = *known;
    cache.keep_disk(path, *known, question.today());
  }
  if (known) host.rates.disk_read = *known;
}

FoundRates find_rates(const comm::World& world, const RunConfig& config,
                      const stage::StageConfig& stage, const std::filesystem::path& disk,
                      bool measures) {
  FoundRates host;
  host.asked = true;
  const auto clock = std::chrono::system_clock::now().time_since_epoch();
  const Question question = {std::chrono::duration_cast<std::chrono::seconds>(clock).count(),
                             measures, config.report.probe == ProbeMode::again};
  try {
    const ProbeCache cache(world.hosts()[static_cast<std::size_t>(world.rank())].name,
                           processor_name());
    // Of the CPU, which works beside every device.
    const int threads = probe_threads(stage.threads * world.ranks_on_host());
    find_engine(cache, threads, question, host);
    find_disk(cache, disk, question, host);
  } catch (const std::exception& error) {  // a run does without the figures
    host.problem = error.what();
  }
  return host;
}

/// `gbps` 0: no limit. A limited link is as fast as its limit, whether or not it was measured.
void limit(double& rate, double gbps) {
  if (gbps > 0) rate = rate > 0 ? std::min(rate, gbps * 1e9) : gbps * 1e9;
}

}  // namespace

std::filesystem::path disk_to_measure(const RunConfig& config, const stage::StageConfig& stage,
                                      const std::filesystem::path& model) {
  std::filesystem::path largest;
  if (config.weights == WeightsFrom::dummy || stage.policy.weights.disk <= 0) return largest;
  if (offload::is_gguf(model)) return model;
  std::uintmax_t bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(model, error)) {
    const std::uintmax_t size = entry.is_regular_file(error) ? entry.file_size(error) : 0;
    if (error || size <= bytes) continue;
    bytes = size;
    largest = entry.path();
  }
  return largest;
}

stage::MachineRates rates_for_run(comm::World& world, const RunConfig& config,
                                  const stage::StageConfig& stage,
                                  const std::filesystem::path& disk, bool seen,
                                  kernels::Engine& engine) {
  const ProbeMode mode = config.report.probe;
  const bool head_sees = comm::broadcast(world, seen);  // collective: always
  const bool wanted = mode == ProbeMode::again || (head_sees && mode == ProbeMode::automatic);
  const bool asks = world.local_rank() == 0;
  const std::vector<FoundRates> all =
      comm::gather(world, asks ? find_rates(world, config, stage, disk, wanted) : FoundRates());
  FoundRates host;
  const std::string& name = world.hosts()[static_cast<std::size_t>(world.rank())].name;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (!all[rank].asked) continue;
    const std::string& of = world.hosts()[rank].name;
    if (of == name) host = all[rank];
    if (world.rank() == 0 && !all[rank].problem.empty() && !config.report.quiet) {
      std::cerr << "sluice: measuring " + of + " for the report: " + all[rank].problem + '\n';
    }
  }
  stage::MachineRates rates = host.rates;
  const double part = 1.0 / world.ranks_on_host();
  rates.memory_read *= part;
  rates.flop *= part;
  if (engine.backend->info().device_bytes > 0) {
    // The others' GPUs are their own; copies of all ranks at once are what a run sees of the links.
    rates.flop = rates.host_to_device = rates.device_to_host = 0;
    rates.device_read = -1;  // there is one, and it is not the host's memory
    try {
      if (wanted) measure_device(engine, rates);
    } catch (const std::exception&) {  // no room to measure in: the figures are not known
    }
  }
  limit(rates.host_to_device, stage.limits.host_to_device_gbps);
  limit(rates.device_to_host, stage.limits.device_to_host_gbps);
  limit(rates.disk_read, stage.limits.disk_read_gbps);
  limit(rates.disk_write, stage.limits.disk_write_gbps);
  return rates;
}

}  // namespace sluice::launcher
