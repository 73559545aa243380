// Runs a job through timed stages (tests/support/timed_pipeline.h) and prints, as one line of JSON,
// how busy each was. tests/bench/pipeline.py makes the cases. Under mpirun (--mpi 1) the stages are
// processes, else threads.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <map>
#include <string>

#include "comm/gather.h"
#include "tests/support/list_job.h"
#include "tests/support/timed_pipeline.h"

namespace sluice {
namespace {

using std::chrono::microseconds;

/// What can be said on the command line, as --name number, and what holds where it is not.
std::map<std::string, std::int32_t> defaults() {
  return {{"mpi", 0},         {"stages", 4},        {"layers", 4},        {"micro-batches", 0},
          {"gpu-batch", 8},   {"gpu-batches", 1},   {"chunk", 512},       {"requests", 40},
          {"prompt", 1},      {"new", 1},           {"layer-us", 0},      {"layer-token-us", 0},
          {"head-us", 0},     {"head-token-us", 0}, {"delay-us", 0},      {"slow-stage", -1},
          {"long-prompt", 0}, {"long-every", 10},   {"slow-percent", 200}};
}

using Settings = std::map<std::string, std::int32_t>;

Settings settings_of(int count, char** words) {
  Settings settings = defaults();
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string word = words[i];
    const auto found = settings.find(word.substr(0, 2) == "--" ? word.substr(2) : "");
    if (found == settings.end()) throw ConfigError(word + ": there is no such setting");
    found->second = std::stoi(words[i + 1]);
  }
  return settings;
}

support::TimedPipelineOptions options_of(const Settings& settings) {
  const auto us = [&](const std::string& name) { return microseconds(settings.at(name)); };
  support::TimedPipelineOptions options;
  options.batching.gpu_batch_size = settings.at("gpu-batch");
  options.batching.num_gpu_batches = settings.at("gpu-batches");
  options.batching.micro_batches = settings.at("micro-batches");
  options.batching.max_tokens_per_gpu_batch = settings.at("chunk");
  options.batching.max_sequence_tokens =
      std::max(settings.at("prompt"), settings.at("long-prompt")) + settings.at("new");
  options.layers_per_stage = settings.at("layers");
  options.link_delay = us("delay-us");
  support::TimedCosts costs;
  costs.layer = {us("layer-us"), us("layer-token-us")};
  options.costs.assign(static_cast<std::size_t>(settings.at("stages")), costs);
  options.costs.back().head = {us("head-us"), us("head-token-us")};
  if (settings.at("slow-stage") >= 0) {
    auto& slow = options.costs.at(static_cast<std::size_t>(settings.at("slow-stage"))).layer;
    slow.fixed = slow.fixed * settings.at("slow-percent") / 100;
    slow.per_token = slow.per_token * settings.at("slow-percent") / 100;
  }
  return options;
}

support::ListJob job_of(const Settings& settings) {
  std::vector<stage::Request> requests(static_cast<std::size_t>(settings.at("requests")));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const bool is_long =
        settings.at("long-prompt") > 0 && static_cast<int>(i) % settings.at("long-every") == 0;
    requests[i].prompt.assign(
        static_cast<std::size_t>(settings.at(is_long ? "long-prompt" : "prompt")), 5);
    requests[i].max_tokens = settings.at("new");
  }
  return support::ListJob(std::move(requests));
}

support::TimedPipelineRun run_over_mpi(const support::TimedPipelineOptions& options,
                                       stage::Job& job, bool& is_head) {
  const auto world = comm::make_mpi_world({});
  is_head = world->rank() == 0;
  if (options.costs.size() != static_cast<std::size_t>(world->size())) {
    throw ConfigError("--stages: must be the number of ranks");
  }
  const auto own = support::run_timed_rank(options, *world, is_head ? &job : nullptr);
  // steady_clock is the machine's: its ranks' times can be compared.
  using Ticks = std::array<std::int64_t, 3>;
  const Ticks ticks = {own.clock.first.time_since_epoch().count(),
                       own.clock.end.time_since_epoch().count(), own.clock.busy.count()};
  support::TimedPipelineRun run{own.run, own.passes, {}};
  const auto works = comm::gather(*world, own.clock.works);
  for (const auto& [first, end, busy] : comm::gather(*world, ticks)) {
    support::LaneClock& clock = run.clocks.emplace_back();
    using Time = std::chrono::steady_clock::time_point;
    clock.first = Time(Time::duration(first));
    clock.end = Time(Time::duration(end));
    clock.busy = std::chrono::nanoseconds(busy);
    clock.works = works[run.clocks.size() - 1];
  }
  return run;
}

void print(const support::TimedPipelineRun& run) {
  const auto seconds = [](auto duration) {
    return std::chrono::duration<double>(duration).count();
  };
  auto first = run.clocks.front().first;
  auto end = run.clocks.front().end;
  for (const support::LaneClock& clock : run.clocks) {
    first = std::min(first, clock.first);
    end = std::max(end, clock.end);
  }
  std::string busy, own;
  for (const support::LaneClock& clock : run.clocks) {
    const char* comma = busy.empty() ? "" : ", ";
    busy += fmt::format("{}{:.6f}", comma, seconds(clock.busy));
    own += fmt::format("{}{:.6f}", comma, seconds(clock.end - clock.first));
  }
  fmt::print(
      "{{\"seconds\": {:.6f}, \"busy\": [{}], \"own_seconds\": [{}], \"passes\": {}, "
      "\"completion_tokens\": {}}}\n",
      seconds(end - first), busy, own, run.passes, run.run.completion_tokens);
}

int run(int count, char** words) {
  const Settings settings = settings_of(count, words);
  const support::TimedPipelineOptions options = options_of(settings);
  support::ListJob job = job_of(settings);
  bool is_head = true;
  const support::TimedPipelineRun result = settings.at("mpi") != 0
                                               ? run_over_mpi(options, job, is_head)
                                               : support::run_timed_pipeline(options, job);
  if (is_head) print(result);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int count, char** words) {
  try {
    return sluice::run(count, words);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_pipeline_stages: {}\n", error.what());
    return 1;
  }
}
