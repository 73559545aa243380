#include "launcher/generate/generate_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <iostream>
#include <memory>
#include <optional>

#include "comm/failure.h"
#include "comm/gather.h"
#include "comm/network.h"
#include "comm/world.h"
#include "launcher/config/config_yaml.h"
#include "launcher/config/shard.h"
#include "launcher/config/version.h"
#include "launcher/generate/auto_plan.h"
#include "launcher/generate/machine_rates.h"
#include "launcher/generate/rank.h"
#include "launcher/generate/run_prediction.h"
#include "launcher/machine/core_share.h"
#include "launcher/planner/machine_file.h"
#include "launcher/planner/plan_config.h"
#include "launcher/planner/prediction_text.h"
#include "launcher/report/load_display.h"
#include "launcher/report/memory_table.h"
#include "launcher/report/report_file.h"
#include "launcher/report/report_json.h"
#include "launcher/report/report_text.h"
#include "launcher/report/trace_json.h"

namespace sluice::launcher {

namespace {

using comm::together;

std::unique_ptr<comm::World> make_world(const RunConfig& config, const JobHooks& hooks) {
  using Milliseconds = std::chrono::milliseconds;
  const auto milliseconds = [](double seconds) {
    return Milliseconds(static_cast<Milliseconds::rep>(seconds * 1000.0));
  };
  comm::MpiOptions options;
  options.heartbeat = milliseconds(config.comm.heartbeat_seconds);
  options.deadline = milliseconds(config.comm.deadline_seconds);
  options.stop_after = std::chrono::seconds(config.job.stop_after_seconds);
  options.stop_time = hooks.stop_time;
  options.advice = hooks.advice.empty() ? advice_after_end(config.job) : hooks.advice;
  return comm::make_world(options);
}

/// As long as it lives, the job hears of the wish that it stop, and of the end of the process.
class StopsHead {
 public:
  StopsHead(comm::World& world, RunJob& job) : world_(world), job_(job) {
    world_.on_stop([](void* run) noexcept { static_cast<RunJob*>(run)->stop(); }, &job);
    world_.on_exit([](void* run) noexcept { static_cast<RunJob*>(run)->before_exit(); }, &job);
  }
  ~StopsHead() {
    world_.forget_exit(&job_);
    world_.forget_stop();
  }
  StopsHead(const StopsHead&) = delete;
  StopsHead& operator=(const StopsHead&) = delete;

 private:
  comm::World& world_;
  RunJob& job_;
};

class Generate {
 public:
  Generate(const RunConfig& config, DryRun dry_run, const std::string& command_line,
           const JobHooks& hooks)
      : asked_(config),
        config_(config),
        dry_run_(dry_run),
        command_line_(command_line),
        hooks_(hooks),
        world_(make_world(config, hooks)),
        is_head_(world_->rank() == 0) {}

  ExitStatus run() {
    world_->step("opening the model", -1, -1);
    together(*world_, [this] { model_.emplace(open_weights(config_)); });
    compare();
    show_network();
    together(*world_, [this] {
      if (is_head_) config_ = of_shard(std::move(config_));
      open_job();
    });
    take_plan();
    tokens_ = share_tokens();
    if (is_planned_) {
      reserve_plan();
    } else {
      reserve();
    }
    if (dry_run_.only_plan) return ExitStatus::done;
    show_plan();
    return work();
  }

 private:
  void compare() {
    const std::uint64_t checkpoint = model_->checkpoint ? model_->checkpoint->digest() : 0;
    comm::handshake(*world_, {{"version", kVersion},
                              {"configuration", config_digest(config_)},
                              {"model", fmt::format("{:016x}", model_->folder.digest)},
                              {"checkpoint", fmt::format("{:016x}", checkpoint)},
                              {"adapters", fmt::format("{:016x}", digest_of(model_->adapters))}});
  }

  /// After the first messages: the sockets of this job are there, and say where they go.
  void show_network() {
    if (!comm::on_several_hosts(world_->hosts())) return;
    const auto interfaces = comm::gather(*world_, comm::connected_interfaces());
    if (!is_head_ || config_.report.quiet) return;
    std::cerr << fmt::format("network: {}\n", comm::network_text(world_->hosts(), interfaces));
  }

  void open_job() {
    // Check now that the stages fit ranks and model, before a large input is read.
    const auto stages = stages_of(config_, world_->size(), model_->folder.config);
    if (!is_head_) return;
    if (!dry_run_.only_plan) {
      if (!config_.report.file.empty()) check_writable(config_.report.file, "--report");
      if (!config_.report.trace.empty()) check_writable(config_.report.trace, "--trace");
    }
    if (!config_.machine.empty()) read_machine_file(config_.machine);  // a wrong one is refused
    // Made-up prompts are as many as the plan has slots; of others the plan asks how long they are.
    const bool plans_first = config_.job.has_dummy_prompts();
    if (plans_first) plan_ = plan_open_run(config_, *model_, {}, *world_);
    const stage::Batching& batching = plan_ ? plan_->batching : config_.batching;
    job_.emplace(config_, *model_, batching.slots(world_->size()), !dry_run_.only_plan,
                 dry_run_.only_plan ? 0 : digest_of(*model_), hooks_);
    if (!plans_first) plan_ = plan_open_run(config_, *model_, job_->scan(), *world_);
  }

  /// Every byte on paper. All ranks throw alike.
  void reserve() {
    put_on_paper();
    if (dry_run_.only_plan) show_plan();  // also of a machine that is too small for it
    check_room();
  }

  void put_on_paper() {
    const int cores = share_of_cores(*world_);
    together(*world_, [&] { rank_.emplace(config_, *model_, tokens_, cores, *world_); });
    show_transport(rank_->choose_transport());
    together(*world_, [this] { rank_->plan(); });
  }

  void check_room() {
    together(*world_, [this] { rank_->check_budgets(); });
    check_devices();
    rank_->check_memory();
  }

  /// Nobody asked for the plan. Where the ranks find less memory than the head planned with (other
  /// processes take some, hosts differ, ranks share a GPU), the run goes on with the defaults.
  void reserve_plan() {
    try {
      put_on_paper();
      check_room();
      if (dry_run_.only_plan) show_plan();
      return;
    } catch (const Error& problem) {
      if (problem.status() != ExitStatus::no_space) throw;
      if (is_head_ && !config_.report.quiet) {
        std::cerr << fmt::format("sluice: the plan does not fit; going on with the defaults: {}\n",
                                 problem.what());
      }
    }
    rank_.reset();
    config_.stages = asked_.stages;
    config_.batching = asked_.batching;
    reserve();
  }

  /// What the head planned, on every rank.
  void take_plan() {
    const std::string yaml =
        comm::broadcast(*world_, plan_ ? to_yaml(with_plan(config_, *plan_)) : std::string());
    if (yaml.empty()) return;
    RunConfig planned;  // files and folders stay this rank's own
    read_config_text(yaml, "the plan", planned);
    config_.stages = std::move(planned.stages);
    config_.batching = planned.batching;
    is_planned_ = true;
  }

  /// The head's, on every rank.
  SequenceTokens share_tokens() {
    const JobScan scan = job_ ? job_->scan() : JobScan();
    const SequenceTokens tokens = comm::broadcast(
        *world_, SequenceTokens{scan.longest_sequence, scan.usual_sequence, scan.most_rule_words,
                                scan.grammars, scan.features});
    return {std::max(tokens.longest, 1), tokens.usual, tokens.rule_words, tokens.grammars,
            tokens.features};
  }

  /// Reports of all ranks, on every rank.
  std::vector<stage::StageReport> gather_reports() {
    std::vector<stage::StageReport> reports;
    stage::StageReport mine = rank_->report();
    mine.rates = rates_;
    if (comm::on_several_hosts(world_->hosts())) mine.interfaces = comm::connected_interfaces();
    for (const std::string& text : comm::gather(*world_, stage_report_to_json(mine))) {
      reports.push_back(stage_report_from_json(text));
    }
    return reports;
  }

  /// All ranks throw alike.
  void check_devices() {
    const std::vector<RankDevice> devices = rank_->devices();
    launcher::check_devices(devices);
    if (!is_head_ || config_.report.quiet) return;
    for (const std::string& line : shared_devices(devices)) std::cerr << "sluice: " + line + '\n';
  }

  void show_plan() {
    const std::vector<stage::StageReport> reports = gather_reports();
    if (is_head_ && !dry_run_.only_plan) {
      job_->planned({reports, config_.batching.slots(world_->size()),
                     [&world = *world_](int rank) { return world.step_of(rank); }});
    }
    if (is_head_ && dry_run_.only_plan) std::cout << memory_table(reports);
    if (dry_run_.schedule) show_schedules();
    if (is_head_ && !dry_run_.only_plan && !config_.report.quiet)
      std::cerr << memory_table(reports);
  }

  void show_schedules() {
    for (const std::string& table : world_->gather(rank_->schedule())) {
      if (is_head_) std::cout << '\n' << table;
    }
  }

  void show_transport(const std::string& transport) {
    if (is_head_ && transport != shown_transport_ && !config_.report.quiet) {
      std::cerr << fmt::format("transport: {}\n", transport);
    }
    shown_transport_ = transport;
  }

  /// Before anything large is there.
  void find_rates() {
    world_->step("measuring the machine", -1, -1);
    const ReportConfig& report = config_.report;
    const bool seen =
        !report.file.empty() || (!report.quiet && look_around(STDERR_FILENO).is_terminal);
    const auto stages = stages_of(config_, world_->size(), model_->folder.config);
    const stage::StageConfig& stage = stages[static_cast<std::size_t>(world_->rank())];
    const auto disk = disk_to_measure(config_, stage, model_->folder.path);
    rates_ = rates_for_run(*world_, config_, stage, disk, seen, rank_->engine());
  }

  ExitStatus work() {
    try {
      find_rates();
      predict();
      rank_->connect();
      load();
      std::optional<StopsHead> stops;
      if (is_head_) {
        job_->start(rank_->threads(), predicted_ ? predicted_->prediction.total_seconds : 0);
        stops.emplace(*world_, *job_);
      }
      const stage::RunReport run = rank_->run(is_head_ ? &*job_ : nullptr);
      const bool rows_failed = is_head_ && job_->finish();
      show_report(run);
      return comm::broadcast(*world_, end_status(run, rows_failed));
    } catch (...) {
      if (job_) job_->keep_journal(false);
      // Over MPI this ends the process. A lone rank has nobody to tell: main says it.
      if (world_->size() > 1) comm::fail_world(*world_, std::current_exception());
      throw;
    }
  }

  /// The head's, of the whole job.
  ExitStatus end_status(const stage::RunReport& run, bool rows_failed) const {
    if (run.stopped) return world_->stop_status().value_or(ExitStatus::stopped);
    return rows_failed ? ExitStatus::rows_failed : ExitStatus::done;
  }

  void predict() {
    if (!is_head_) return;
    predicted_ = predict_run(config_, *model_, job_->scan(), tokens_, *world_,
                             rank_->engine().backend->info().kind);
    if (predicted_ && !config_.report.quiet) {
      std::cerr << prediction_line(predicted_->prediction, config_) + '\n';
    }
  }

  void load() {
    std::optional<LoadDisplay> display;
    LoadWatch watch;
    if (is_head_ && !config_.report.quiet) {
      display.emplace(std::cerr, progress_style(config_.report, look_around(STDERR_FILENO)),
                      rank_->load_bytes());
      watch.packing = [&](const offload::PackingState& state) { display->packing(state); };
      watch.loaded = [&](std::uint64_t bytes) { display->loaded(bytes); };
    }
    rank_->load(watch);
    if (display) display->finish();
    together(*world_, [] {});  // all are loaded: the clock of the run starts everywhere
  }

  void show_report(const stage::RunReport& run) {
    const std::vector<stage::StageReport> reports = gather_reports();
    if (is_head_ && !config_.report.quiet) {
      std::cerr << report_text(reports, run);
      if (const auto restarts = slurm_restarts()) {
        std::cerr << fmt::format("Slurm has started this job again {} time{}.\n", *restarts,
                                 *restarts == 1 ? "" : "s");
      }
      std::cerr << journal_text(job_->journal_use());
      if (predicted_ && !run.stopped) std::cerr << prediction_text(*predicted_, reports, run);
    }
    if (is_head_ && !config_.report.file.empty()) {
      ReportFacts facts{command_line_, config_.model, to_yaml(config_),
                        world_->size() > 1 ? "mpi" : "local", std::chrono::system_clock::now()};
      facts.slurm_restarts = slurm_restarts();
      if (predicted_) facts.prediction = predicted_->prediction;
      facts.journal = job_->journal_use();
      write_report_file(config_.report.file, report_json(reports, run, facts));
    }
    if (!config_.report.trace.empty()) write_trace();
  }

  void write_trace() {
    using Nanoseconds = std::chrono::nanoseconds;
    const auto wall = std::chrono::duration_cast<Nanoseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    const std::int64_t start = wall.count() - rank_->trace().now_ns();
    const std::int64_t first = comm::broadcast(*world_, start);
    StageTrace trace;
    trace.rank = world_->rank();
    trace.host = world_->hosts()[static_cast<std::size_t>(trace.rank)].name;
    trace.spans = rank_->trace().spans();
    trace.dropped = rank_->trace().dropped_spans();
    trace.offset_ns = start - first;
    const std::vector<std::string> events = comm::gather(*world_, trace_events(trace));
    if (is_head_) write_report_file(config_.report.trace, trace_json(events));
  }

  const RunConfig& asked_;
  RunConfig config_;  // asked_, with what was planned
  DryRun dry_run_;
  const std::string& command_line_;
  const JobHooks& hooks_;
  std::unique_ptr<comm::World> world_;
  bool is_head_;
  std::optional<OpenedModel> model_;
  std::optional<RunJob> job_;
  std::optional<Plan> plan_;  // the head's, where it made one
  bool is_planned_ = false;   // on every rank: stages and batching are the plan's
  std::optional<Rank> rank_;
  std::string shown_transport_;
  SequenceTokens tokens_;
  std::optional<PredictedRun> predicted_;  // by the head
  stage::MachineRates rates_;
};

}  // namespace

ExitStatus generate(const RunConfig& config, DryRun dry_run, const std::string& command_line,
                    const std::function<void(const std::string& sentence)>& say,
                    const JobHooks& hooks) {
  Generate command(config, dry_run, command_line, hooks);
  // Say it before the world ends, because the world waits for all ranks. mpirun ends a job as soon
  // as one rank leaves with a status, even if another rank still has its sentence to say.
  try {
    return command.run();
  } catch (...) {
    const Error error = comm::as_error(std::current_exception());
    say(error.what());
    return error.status();
  }
}

}  // namespace sluice::launcher
