#include "launcher/calibrate/calibrate_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <exception>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "comm/failure.h"
#include "comm/gather.h"
#include "kernels/engine.h"
#include "launcher/calibrate/copy_rates.h"
#include "launcher/calibrate/machine_table.h"
#include "launcher/calibrate/measure_machine.h"
#include "launcher/calibrate/network_rates.h"
#include "launcher/machine/core_share.h"
#include "launcher/planner/machine_file.h"
#include "launcher/report/progress.h"
#include "launcher/report/report_file.h"

namespace sluice::launcher {

namespace {

using comm::together;

class Calibration {
 public:
  Calibration(comm::World& world, const CalibrateArguments& arguments,
              const CalibrationSizes& sizes, std::ostream& out)
      : world_(world), arguments_(arguments), sizes_(sizes), out_(out) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    date_ = date_of(std::chrono::duration_cast<std::chrono::seconds>(now).count());
  }

  void run() {
    world_.step("measuring", -1, -1);
    together(world_, [this] {
      if (is_head()) find_file();
    });
    together(world_, [this] {
      if (is_head()) measure();
    });
    count_hosts();
    measure_shared_link();
    measure_networks();
    together(world_, [this] {
      if (is_head()) finish();
    });
  }

 private:
  bool is_head() const { return world_.rank() == 0; }

  void find_file() {
    file_ = arguments_.output;
    if (file_.empty()) file_ = machine_file_path(world_.hosts().front().name, processor_name());
    if (file_.empty()) {
      throw ConfigError(
          "there is no folder to keep the machine file in, as neither XDG_CACHE_HOME nor HOME is "
          "set; give a file with --output FILE");
    }
    if (!arguments_.output.empty()) check_writable(file_, "--output");
    std::error_code error;
    if (!std::filesystem::is_directory(arguments_.directory, error)) {
      throw ConfigError(
          fmt::format("--directory {}: there is no such folder; name the one that "
                      "offload files will lie in",
                      arguments_.directory));
    }
  }

  kernels::Engine make_engine() const {
    kernels::EngineOptions options;
    options.device = arguments_.device;
    options.threads = arguments_.threads;
    options.local_rank = world_.local_rank();
    options.weight_dtype = DType::f16;  // a GPU's, of quantised weights
    return kernels::make_engine(options);
  }

  /// mpirun binds each of few ranks to a core of its own unless it is told not to.
  void tell_of_binding() const {
    const auto cores = static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_ONLN));
    const std::size_t own = own_cores().size();
    if (arguments_.quiet || world_.size() == 1 || own >= cores) return;
    std::cerr << fmt::format(
        "sluice: rank 0 may use {} of the host's {} cores, and measures those; to measure all of "
        "them, start it with mpirun --bind-to none\n",
        own, cores);
  }

  void measure() {
    tell_of_binding();
    kernels::Engine engine = make_engine();
    ReportConfig report;
    report.quiet = arguments_.quiet;
    std::uint64_t done = 0;
    Progress progress(std::cerr, progress_style(report, look_around(STDERR_FILENO)), "measuring",
                      Progress::Unit::figures, figures_to_measure(engine, sizes_));
    Sampler sampler(sizes_, date_, [&] { progress.update(done++); });
    machine_ = measure_machine(engine, arguments_.directory, sampler);
    machine_.name = world_.hosts().front().name;
    progress.update(done);
    progress.finish();
  }

  /// Ranks of a GPU machine each have a GPU of their own; those of a CPU share one.
  void count_hosts() {
    std::set<std::string> names;
    for (const comm::Host& host : world_.hosts()) names.insert(host.name);
    machine_.hosts = static_cast<std::int32_t>(names.size());
    machine_.device.kind = comm::broadcast(world_, machine_.device.kind);
    machine_.devices = machine_.device.kind == "cpu" ? 1 : world_.ranks_on_host();
  }

  /// All GPUs of the first host copy at once: whether their links are one.
  void measure_shared_link() {
    const int ranks = comm::broadcast(world_, world_.ranks_on_host());
    if (machine_.device.kind == "cpu" || ranks < 2) return;
    std::optional<kernels::Engine> engine;
    const bool takes_part =
        world_.hosts()[static_cast<std::size_t>(world_.rank())].name == world_.hosts()[0].name;
    together(world_, [&] {
      if (takes_part) engine.emplace(make_engine());
    });
    double rate = 0;
    together(world_, [&] {
      if (engine) rate = copy_once(*engine, Lane::host_to_device, sizes_.copy_bytes, 20);
    });
    double sum = 0;
    for (const double one : comm::gather(world_, rate)) sum += one;
    machine_.shares_link = sum < 0.75 * ranks * machine_.host_to_device.alone.value;
  }

  void measure_networks() {
    const Partners partners = find_partners(world_);
    for (const auto& [partner, rates] : {std::pair(partners.within_host, &machine_.within_host),
                                         std::pair(partners.other_host, &machine_.between_hosts)}) {
      if (partner < 0) continue;
      if (is_head() || world_.rank() == partner) *rates = measure_network(world_, partner, date_);
      together(world_, [] {});
    }
  }

  /// What only a job of several ranks can measure is kept from before.
  void keep_networks() {
    std::error_code error;
    if (world_.size() > 1 || !std::filesystem::exists(file_, error)) return;
    try {
      const Machine before = read_machine_file(file_);
      if (before.name != machine_.name || before.on_paper) return;
      machine_.within_host = before.within_host;
      machine_.between_hosts = before.between_hosts;
    } catch (const Error&) {  // it is replaced
    }
  }

  void finish() {
    keep_networks();
    write_machine_file(file_, machine_);
    if (!arguments_.quiet) std::cerr << restless_line(machine_);
    out_ << machine_table(machine_)
         << fmt::format("written to {}\n", std::filesystem::absolute(file_).string());
  }

  comm::World& world_;
  const CalibrateArguments& arguments_;
  const CalibrationSizes& sizes_;
  std::ostream& out_;
  std::string date_;
  std::filesystem::path file_;
  Machine machine_;
};

}  // namespace

void calibrate_in(comm::World& world, const CalibrateArguments& arguments,
                  const CalibrationSizes& sizes, std::ostream& out) {
  Calibration(world, arguments, sizes, out).run();
}

ExitStatus calibrate(const CalibrateArguments& arguments, std::ostream& out,
                     const std::function<void(const std::string& sentence)>& say) {
  comm::MpiOptions options;
  options.advice = "run it again";
  const std::unique_ptr<comm::World> world = comm::make_world(options);
  try {
    calibrate_in(*world, arguments, {}, out);
    return ExitStatus::done;
  } catch (const Error& error) {
    say(error.what());
    return error.status();
  } catch (const std::exception& error) {
    say(error.what());
    return ExitStatus::failure;
  }
}

}  // namespace sluice::launcher
