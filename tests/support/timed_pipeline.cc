#include "tests/support/timed_pipeline.h"

#include <exception>
#include <mutex>
#include <thread>

#include "offload/disk/disk_engine.h"
#include "offload/weights/weight_source.h"
#include "stage/stage.h"
#include "tests/support/delayed_world.h"

namespace sluice::support {

namespace {

stage::DecoderConfig small_model(std::int32_t layers) {
  stage::DecoderConfig model;
  model.layers = layers;
  model.hidden = model.embedding.width = 64;
  model.attention = {4, 4, 16, true, true, 0.25F};
  model.mlp.width = 128;
  model.vocabulary = 320;
  model.max_positions = 2048;
  model.dtype = DType::f32;
  return model;
}

}  // namespace

TimedRankRun run_timed_rank(const TimedPipelineOptions& options, comm::World& world,
                            stage::Job* job) {
  const auto rank = static_cast<std::size_t>(world.rank());
  stage::StageLayout layout;
  layout.model = small_model(options.layers_per_stage * world.size());
  layout.config.first_layer = options.layers_per_stage * world.rank();
  layout.config.layers = options.layers_per_stage;
  layout.batching = options.batching;
  layout.batching.share_prefixes = false;  // all prompts are alike, and each is to be computed
  layout.stage = world.rank();
  layout.stages = world.size();

  TimedRankRun result;
  Trace trace(0);
  DelayedWorld delayed(world, options.link_delay);
  kernels::Engine engine = make_timed_engine(options.costs[rank], layout.model.mlp.width,
                                             layout.model.vocabulary, result.clock, &trace);
  const auto disk = offload::DiskEngine::make({});
  const auto source = offload::make_dummy_source(layout.model.dtype, *disk, {});
  stage::Stage stage(layout, {delayed, engine, *source, disk.get(), nullptr, trace});
  stage.load({});
  world.gather("loaded");
  result.run = stage.run(job);
  result.passes = stage.report().run.passes;
  world.gather("done");  // nobody's buffers go while a message is still late
  return result;
}

TimedPipelineRun run_timed_pipeline(const TimedPipelineOptions& options, stage::Job& job) {
  const auto worlds = comm::make_local_worlds(static_cast<int>(options.costs.size()));
  TimedPipelineRun result;
  result.clocks.resize(worlds.size());
  std::mutex mutex;
  std::exception_ptr failure;
  const auto run_rank = [&](std::size_t rank) {
    try {
      const TimedRankRun own = run_timed_rank(options, *worlds[rank], rank == 0 ? &job : nullptr);
      const std::lock_guard lock(mutex);
      result.clocks[rank] = own.clock;
      if (rank > 0) return;
      result.run = own.run;
      result.passes = own.passes;
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t rank = 1; rank < worlds.size(); ++rank) threads.emplace_back(run_rank, rank);
  run_rank(0);
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  return result;
}

}  // namespace sluice::support
