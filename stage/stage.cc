#include "stage/stage.h"

#include <algorithm>
#include <exception>
#include <initializer_list>
#include <optional>
#include <thread>

#include "comm/channel_watch.h"
#include "comm/failure.h"
#include "comm/gather.h"
#include "stage/executor.h"
#include "stage/head.h"
#include "stage/pass_shape.h"
#include "stage/phase_meter.h"
#include "stage/task_work.h"
#include "stage/warm_up.h"

namespace sluice::stage {

namespace {

using offload::Tier;

/// A stall is counted when the compute lane resumes, so resume it once at the end.
void wake_compute_lane(Backend& backend) {
  backend.call(
      Lane::compute, [](void*) {}, nullptr);
  backend.synchronize(backend.record(Lane::compute));
}

/// Whether pages of the cache or hidden states go over the link beside the weights.
bool shares_link(const offload::Policy& policy) {
  return policy.cache.device < 100 || policy.activations.device < 100;
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Threads of one rank fail one after the other. A CommError is the echo of another failure, so the
/// first error of another kind is the cause.
std::exception_ptr first_cause(std::initializer_list<std::exception_ptr> errors) {
  std::exception_ptr echo;
  for (const std::exception_ptr& error : errors) {
    if (!error) continue;
    try {
      std::rethrow_exception(error);
    } catch (const CommError&) {
      if (!echo) echo = error;
    } catch (...) {
      return error;
    }
  }
  return echo;
}

/// The head's thread. It keeps the exception that ended it, and tells the other ranks.
class HeadThread {
 public:
  HeadThread(Job& job, const Batching& batching, comm::World& world,
             const std::vector<CacheRoom>& rooms, Drafter* drafter)
      : thread_([this, &job, &batching, &world, rooms, drafter] {
          work(job, batching, world, rooms, drafter);
        }) {}
  ~HeadThread() {
    if (thread_.joinable()) thread_.join();
  }
  /// Returns what the head threw, or null, and its report.
  std::exception_ptr finish(RunReport& report) {
    thread_.join();
    report = report_;
    return cause_;
  }

 private:
  void work(Job& job, const Batching& batching, comm::World& world,
            const std::vector<CacheRoom>& rooms, Drafter* drafter) {
    try {
      report_ = run_head(job, batching, world, rooms, drafter);
      return;
    } catch (...) {
      cause_ = std::current_exception();
    }
    comm::fail_world(world, cause_);  // wakes this rank's own stage loop, too
  }

  RunReport report_;
  std::exception_ptr cause_;
  std::thread thread_;
};

}  // namespace

class Stage::Impl {
 public:
  Impl(const StageLayout& layout, const StageResources& resources)
      : layout_(layout), resources_(resources), meter_(resources.trace) {
    const std::string where = "stage " + std::to_string(layout.stage);
    layout_.device_samples = resources.engine.backend->info().samples;
    placement_ = offload::place_weights(layer_specs(layout_), layout_.config.policy.weights,
                                        resources_.source);
    fit_cache(layout_, placement_);
    plan_ = plan_memory(layout_, placement_);
    if (needs_disk() && resources_.disk == nullptr) {
      throw ConfigError(where + ": its policy keeps bytes on disk, but no disk engine was given");
    }
  }

  const StageLayout& layout() const { return layout_; }
  const offload::MemoryPlan& plan() const { return plan_; }
  void check_budgets() const {
    plan_.check(layout_.config.budgets, "stage " + std::to_string(layout_.stage));
  }
  const std::vector<offload::GroupPlacement>& placement() const { return placement_; }

  void load(const std::function<void(std::uint64_t)>& progress) {
    check_budgets();
    const auto begin = Clock::now();
    resources_.world.step("loading", -1, -1);
    Backend& backend = *resources_.engine.backend;
    device_ = offload::Arena(backend.allocate_device(plan_.total(Tier::device) -
                                                     layout_.engine_bytes - drafts(Tier::device)),
                             "device");
    const std::uint64_t control = plan_.total(Tier::host, offload::kControl);
    control_ = offload::Arena(backend.allocate_host(control, true), offload::kControl);
    host_ =
        offload::Arena(backend.allocate_host(plan_.total(Tier::host) - control - outside_arenas(),
                                             layout_.config.policy.pin_weight),
                       "host");
    const offload::WeightStreamOptions options{layout_.config.policy.weight_slots,
                                               &resources_.trace,
                                               layout_.config.policy.overlap,
                                               {},
                                               shares_link(layout_.config.policy)};
    const auto report = [](std::uint64_t bytes, void* context) {
      (*static_cast<const std::function<void(std::uint64_t)>*>(context))(bytes);
    };
    auto* context = const_cast<std::function<void(std::uint64_t)>*>(&progress);
    // Files are preallocated first, so that a full disk is found before anything is loaded.
    cache_.emplace(resources_.engine, kv_shape(layout_), layout_.config.policy, device_, host_,
                   control_, resources_.disk, resources_.folder, &resources_.trace);
    activations_.emplace(backend, activation_shape(layout_), layout_.config.policy.activations,
                         device_, host_, resources_.disk, resources_.folder, &resources_.trace);
    weights_.emplace(backend, resources_.source, placement_, options, device_, host_,
                     progress ? static_cast<void (*)(std::uint64_t, void*)>(report) : nullptr,
                     context);
    workspace_.emplace(layout_, device_, host_, control_);
    workspace_->tokens = resources_.tokens;
    workspace_->layer.mixture.backend = resources_.engine.backend.get();
    if (layout_.adapters) {
      adapters_.emplace(layout_, backend, resources_.adapters, device_, host_);
      workspace_->adapters = &*adapters_;
    }
    upload_frequencies(backend, layout_.model.positions, *workspace_);
    if (backend.info().loads_kernels) {
      warm_up(layout_, resources_.engine, *weights_, *activations_, *workspace_);
    }
    load_seconds_ = seconds_since(begin);
  }

  void use(comm::DeviceChannel& channel) { channel_ = &channel; }

  RunReport run(Job* job) {
    wake_compute_lane(*resources_.engine.backend);
    meter_.begin();
    const std::vector<CacheRoom> rooms = gather_rooms();
    Executor executor({layout_, placement_, resources_.world, channel_, resources_.engine,
                       *weights_, *cache_, *activations_, *workspace_, resources_.trace});
    PassInbox inbox(layout_, *workspace_, resources_.world, channel_, *resources_.engine.backend,
                    resources_.trace);
    std::optional<comm::ChannelWatch> watch;
    if (channel_ != nullptr) watch.emplace(*channel_, resources_.world);
    std::optional<HeadThread> head;
    if (job != nullptr) {
      head.emplace(*job, layout_.batching, resources_.world, rooms, resources_.drafter);
    }
    RunReport report;
    try {
      loop(executor, inbox);
    } catch (...) {
      const std::exception_ptr error = std::current_exception();
      comm::fail_world(resources_.world, error);
      // Abort the channel only after the other ranks know of the failure. Lanes that wait for a
      // message would never drain, and no rank can mistake the garbage for an answer.
      if (channel_ != nullptr) channel_->abort();
      std::exception_ptr head_error;
      if (head) head_error = head->finish(report);
      std::rethrow_exception(first_cause({executor.failure(), error, head_error}));
    }
    if (head) {
      const std::exception_ptr error = head->finish(report);
      if (error) std::rethrow_exception(error);
    }
    return report;
  }

  StageReport report() const {
    StageReport report;
    report.rank = resources_.world.rank();
    report.host = resources_.world.hosts()[static_cast<std::size_t>(report.rank)].name;
    report.device = resources_.engine.backend->info().description;
    if (layout_.stages > 1) report.transport = layout_.device_channel ? "nccl" : "mpi";
    if (resources_.disk != nullptr) report.disk = resources_.disk->description();
    report.first_layer = layout_.config.first_layer;
    report.layers = layout_.config.layers;
    report.cache_dtype = name_of(layout_.cache_dtype());
    report.load = meter_.load();
    report.run = meter_.run();
    report.decode = meter_.decode();
    report.measures_stalls = resources_.trace.measures_stalls();
    report_tiers(report);
    if (cache_) {
      report.cache_tokens_stored = cache_->usage().tokens_stored;
      report.cache_tokens_taken = cache_->usage().tokens_taken;
    }
    report.load_seconds = load_seconds_;
    return report;
  }

 private:
  /// Of all stages: the head admits to what they can hold.
  std::vector<CacheRoom> gather_rooms() const {
    const CacheRoom own{layout_.config.policy.cache,
                        kv_shape(layout_).page_tokens,
                        cache_->pool_pages(),
                        cache_->pages_per_slot(),
                        layout_.batching.share_prefixes && cache_->shares_prefixes(),
                        layout_.model.positions.long_after()};
    return comm::gather(resources_.world, own);
  }

  /// Host memory on the plan that the parts have on the heap.
  std::uint64_t outside_arenas() const {
    return checksum_bytes(plan_) + plan_.total(Tier::host, "passes") + grammar_memory(layout_) +
           plan_.total(Tier::host, offload::kPrefixes) + drafts(Tier::host);
  }

  std::uint64_t drafts(Tier tier) const {
    return layout_.draft_bytes[static_cast<std::size_t>(tier)];
  }

  bool needs_disk() const {
    const offload::Policy& policy = layout_.config.policy;
    return policy.weights.disk > 0 || policy.cache.disk > 0 || policy.activations.disk > 0;
  }

  void loop(Executor& executor, PassInbox& inbox) {
    const StageWork work = stage_work(layout_, placement_);
    for (;;) {
      resources_.world.step("waiting for a pass", static_cast<std::int64_t>(passes_), -1);
      const Pass& pass = inbox.next();
      if (pass.end) break;
      executor.plan(pass);
      meter_.next_pass(decodes(pass),
                       compute_work(work_of(executor.tasks(), executor.shape(), work)));
      executor.run(pass, inbox);
      ++passes_;
    }
    executor.drain();
    wake_compute_lane(*resources_.engine.backend);
    meter_.end();
    resources_.world.step("finished", static_cast<std::int64_t>(passes_), -1);
  }

  void report_tiers(StageReport& report) const {
    report.plan = plan_.reservations();
    const std::uint64_t files =
        weights_ ? weights_->disk_bytes() + cache_->disk_bytes() + activations_->disk_bytes() : 0;
    const std::uint64_t host_used = host_.used() + control_.used() + pass_memory(layout_) +
                                    grammar_memory(layout_) + drafts(Tier::host) +
                                    plan_.total(Tier::host, offload::kPrefixes) +
                                    offload::DiskEngine::checksum_bytes(files);
    const std::uint64_t used[] = {device_.used() + layout_.engine_bytes + drafts(Tier::device),
                                  host_used, files};
    std::uint64_t total = 0;
    for (const offload::GroupPlacement& layer : placement_) total += layer.total_bytes();
    for (int t = 0; t < offload::kTierCount; ++t) {
      const auto i = static_cast<std::size_t>(t);
      const Tier tier = static_cast<Tier>(t);
      report.tiers[i] = {layout_.config.budgets.bytes[i], plan_.total(tier), used[i]};
      std::uint64_t bytes = 0;
      for (const offload::GroupPlacement& layer : placement_) bytes += layer.bytes(tier);
      report.weight_share_asked[i] = layout_.config.policy.weights.of(tier);
      report.weight_share_achieved[i] =
          total > 0 ? 100.0 * static_cast<double>(bytes) / static_cast<double>(total) : 0.0;
    }
  }

  StageLayout layout_;
  StageResources resources_;
  comm::DeviceChannel* channel_ = nullptr;
  PhaseMeter meter_;
  std::vector<offload::GroupPlacement> placement_;
  offload::MemoryPlan plan_;
  offload::Arena device_;
  offload::Arena host_;
  offload::Arena control_;
  std::optional<offload::WeightStream> weights_;
  std::optional<offload::KvCache> cache_;
  std::optional<offload::ActivationStore> activations_;
  std::optional<Workspace> workspace_;
  std::optional<AdapterWeights> adapters_;
  double load_seconds_ = 0;
  std::uint64_t passes_ = 0;
};

Stage::Stage(const StageLayout& layout, const StageResources& resources)
    : impl_(std::make_unique<Impl>(layout, resources)) {}
Stage::~Stage() = default;
const StageLayout& Stage::layout() const { return impl_->layout(); }
const offload::MemoryPlan& Stage::plan() const { return impl_->plan(); }
void Stage::check_budgets() const { impl_->check_budgets(); }
const std::vector<offload::GroupPlacement>& Stage::placement() const { return impl_->placement(); }
void Stage::load(const std::function<void(std::uint64_t)>& progress) { impl_->load(progress); }
void Stage::use(comm::DeviceChannel& channel) { impl_->use(channel); }
RunReport Stage::run(Job* job) { return impl_->run(job); }
StageReport Stage::report() const { return impl_->report(); }

}  // namespace sluice::stage
