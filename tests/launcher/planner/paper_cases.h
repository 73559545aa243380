// Small models, jobs and machines on paper, for tests of the planner's arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/planner/paper_run.h"
#include "launcher/planner/simulator.h"
#include "stage/layer_split.h"

namespace sluice::launcher::paper {

/// OPT's form: per layer and token 2 * (4 h^2 + 8 h^2) FLOP of products.
inline stage::DecoderConfig model(std::int32_t layers, std::int32_t hidden,
                                  std::int32_t vocabulary) {
  stage::DecoderConfig model;
  model.layers = layers;
  model.hidden = model.embedding.width = hidden;
  model.vocabulary = vocabulary;
  model.max_positions = 4096;
  model.attention.head_width = 64;
  model.attention.query_heads = model.attention.kv_heads = hidden / 64;
  model.mlp.width = 4 * hidden;
  model.dtype = DType::f32;
  return model;
}

/// A device on which nothing takes any time.
inline Machine free_machine() {
  Machine machine;
  machine.name = "free";
  machine.device.kind = "cuda";
  machine.device.memory = std::uint64_t{1} << 50U;
  machine.device.compute_dtype = DType::f32;
  machine.host.cores = 64;
  return machine;
}

inline RateCurve flat(double rate) {
  RateCurve curve;
  curve.points.push_back({1, {rate, 0, "", ""}});
  return curve;
}
inline Figure figure(double value) { return {value, 0, "", ""}; }

/// Everything takes some time.
inline Machine usual_machine() {
  Machine machine = free_machine();
  machine.device.products[DType::f32] = flat(2e9);
  machine.device.decode_attention[DType::f32] = figure(1e9);
  machine.device.prefill_attention[DType::f32] = figure(1e9);
  machine.device.memory_read = figure(2e9);
  machine.device.task_seconds = figure(1e-6);
  machine.host.decode_attention[DType::f32] = figure(2e8);
  machine.host.prefill_attention[DType::f32] = figure(2e8);
  machine.host.memory_read = figure(5e9);
  machine.host.memory_copy = figure(5e9);
  machine.host_to_device.alone = machine.device_to_host.alone = figure(4e8);
  machine.host_to_device.computing = machine.device_to_host.computing = figure(3e8);
  machine.host_to_device.product_share = figure(0.9);
  machine.device_to_host.product_share = figure(0.9);
  machine.disk.read = machine.disk.write = flat(2e8);
  machine.within_host.bandwidth = machine.between_hosts.bandwidth = figure(1e9);
  machine.within_host.latency = machine.between_hosts.latency = figure(1e-5);
  machine.hosts = 64;
  return machine;
}

inline std::vector<SimulatedRequest> alike(std::size_t count, std::int32_t prompt,
                                           std::int32_t answer) {
  return std::vector<SimulatedRequest>(count, {prompt, answer});
}

struct Case {
  stage::DecoderConfig model = paper::model(4, 256, 512);
  RunConfig config;
  std::int32_t stages = 1;
  std::vector<SimulatedRequest> requests = alike(4, 16, 4);

  SimulatedJob job(const Machine& machine) const {
    RunConfig used = config;
    used.comm.transport = comm::Transport::mpi;
    if (used.stages.empty()) {
      used.stages.assign(static_cast<std::size_t>(stages), used.stage_defaults);
      stage::split_layers(used.stages, model.layers, stage::decode_weights(model));
    }
    std::int32_t next = 0;
    for (stage::StageConfig& one : used.stages) {
      one.first_layer = next;
      next += one.layers;
    }
    OpenedModel opened;
    opened.folder.config = model;
    return paper_job(used, used.stages, opened, machine, requests);
  }
  SimulatedRun run(const Machine& machine, const SimulationOptions& options = {}) const {
    return simulate(job(machine), machine, options);
  }
};

}  // namespace sluice::launcher::paper
