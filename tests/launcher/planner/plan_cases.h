// Models, machines and jobs that plans are made for in tests: small ones, and ones by chance.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>

#include "launcher/planner/plan_request.h"
#include "paper_cases.h"

namespace sluice::launcher::paper {

/// A request and what it points to.
struct PlanCase {
  OpenedModel model;
  Machine machine = usual_machine();
  PlanRequest request;

  PlanCase() { request.stages.resize(1); }
  /// To be called last.
  const PlanRequest& asked() {
    request.model = &model;
    request.machine = &machine;
    return request;
  }
};

class Chance {
 public:
  explicit Chance(unsigned seed) : engine_(seed) {}
  /// From first to last.
  std::int64_t number(std::int64_t first, std::int64_t last) {
    return first +
           static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(last - first + 1));
  }
  /// Spread evenly over the magnitudes between both.
  double size(double least, double most) {
    const double part = static_cast<double>(engine_() % 1'000'001) / 1e6;
    return least * std::pow(most / least, part);
  }
  bool coin() { return engine_() % 2 == 0; }

 private:
  std::mt19937_64 engine_;
};

inline Figure near(Chance& chance, double value) { return figure(value * chance.size(0.2, 5)); }

/// With memory between too little and plenty for models of some MiB.
inline Machine random_machine(Chance& chance) {
  Machine machine = usual_machine();
  const bool is_gpu = chance.coin();
  machine.device.kind = is_gpu ? "cuda" : "cpu";
  machine.host.memory = static_cast<std::uint64_t>(chance.size(8e6, 4e9));
  // What a GPU's engine and context take comes on top.
  machine.device.memory =
      is_gpu ? (std::uint64_t{1} << 30U) + static_cast<std::uint64_t>(chance.size(1e6, 1e9))
             : machine.host.memory;
  machine.device.products[DType::f32] = flat(chance.size(1e9, 1e12));
  machine.device.memory_read = near(chance, 2e10);
  machine.device.decode_attention[DType::f32] = near(chance, 1e10);
  machine.device.prefill_attention[DType::f32] = near(chance, 1e10);
  machine.host.decode_attention[DType::f32] = near(chance, 5e9);
  machine.host_to_device.alone = near(chance, 5e9);
  machine.device_to_host.alone = near(chance, 5e9);
  machine.disk.read = flat(chance.size(1e7, 5e9));
  machine.disk.write = flat(chance.size(1e7, 5e9));
  machine.disk.free_bytes = chance.coin() ? 0 : static_cast<std::uint64_t>(chance.size(1e6, 1e11));
  machine.hosts = static_cast<std::int32_t>(chance.number(1, 3));
  machine.devices = static_cast<std::int32_t>(chance.number(1, 3));
  machine.shares_link = chance.coin();
  return machine;
}

inline stage::DecoderConfig random_model(Chance& chance) {
  stage::DecoderConfig made = paper::model(static_cast<std::int32_t>(chance.number(1, 8)),
                                           static_cast<std::int32_t>(64 * chance.number(1, 8)),
                                           static_cast<std::int32_t>(chance.number(100, 9000)));
  made.dtype = chance.coin() ? DType::f32 : DType::f16;
  made.head.tied = chance.coin();
  made.mlp.gated = chance.coin();
  if (chance.number(0, 3) == 0) {  // every other layer has a window
    for (std::int32_t layer = 0; layer < made.layers; ++layer) {
      made.attention.windows.push_back(layer % 2 == 0 ? 64 : 0);
    }
  }
  return made;
}

inline PlannedJob random_job(Chance& chance) {
  if (chance.coin()) {
    return PlannedJob::alike(static_cast<std::int32_t>(chance.number(1, 400)),
                             static_cast<std::int32_t>(chance.number(1, 60)), chance.number(0, 60));
  }
  PlannedJob job;
  const std::int64_t count = chance.number(1, 60);
  for (std::int64_t i = 0; i < count; ++i) {
    job.requests.push_back({static_cast<std::int32_t>(chance.number(1, 300)),
                            static_cast<std::int32_t>(chance.number(1, 40))});
    job.usual_sequence = std::max(
        job.usual_sequence, job.requests.back().prompt_tokens + job.requests.back().new_tokens);
  }
  job.rows = count;
  job.longest_sequence = job.usual_sequence + static_cast<std::int32_t>(chance.number(0, 500));
  return job;
}

inline void random_case(Chance& chance, PlanCase& made) {
  made.machine = random_machine(chance);
  made.model.folder.config = random_model(chance);
  const stage::DecoderConfig& model = made.model.folder.config;
  const std::int64_t devices = made.machine.hosts * made.machine.devices;
  const std::int64_t most = std::min<std::int64_t>(devices, model.layers);
  made.request.stages.resize(static_cast<std::size_t>(chance.number(1, most)));
  made.request.job = random_job(chance);
  made.request.made_up_weights = chance.coin();
  for (stage::StageConfig& stage : made.request.stages) {
    if (chance.coin()) stage.budgets.bytes[0] = static_cast<std::uint64_t>(chance.size(1e6, 2e9));
    if (chance.number(0, 3) == 0) stage.policy.weight_slots = 3;
  }
}

}  // namespace sluice::launcher::paper
