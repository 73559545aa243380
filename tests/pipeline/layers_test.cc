// Hidden states after every layer, and all logits, against Hugging Face's: within 1e-4 relative.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/engine.h"
#include "launcher/generate/rank_weights.h"
#include "launcher/model/opened_model.h"
#include "offload/disk/disk_engine.h"
#include "stage/decoder.h"
#include "stage/stage_memory.h"
#include "stage/workspace.h"
#include "tests/support/reference_cases.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/test_name.h"

namespace sluice::stage {
namespace {

using nlohmann::json;
using offload::Tier;

StageLayout layout_of(const launcher::ModelFolder& model) {
  StageLayout layout;
  layout.model = model.config;
  layout.config.layers = model.config.layers;
  layout.batching.gpu_batch_size = 64;  // as many rows of logits at a time
  layout.batching.max_tokens_per_gpu_batch = 64;
  layout.batching.max_sequence_tokens = 64;
  return layout;
}

kernels::Engine cpu_engine() {
  kernels::EngineOptions options;
  options.threads = 2;
  return kernels::make_cpu_engine(options);
}

/// The whole model in one stage, run by hand, one prompt from its first token.
class ByHand {
 public:
  explicit ByHand(const launcher::OpenedModel& model)
      : layout_(layout_of(model.folder)),
        engine_(cpu_engine()),
        disk_(offload::DiskEngine::make({})),
        source_(config_in(packed_.path()), offload::Compression::none, model, *disk_, {}, 1),
        placement_(offload::place_weights(layer_specs(layout_), {}, source_.source())),
        plan_(plan_memory(layout_, placement_)),
        device_(engine_.backend->allocate_device(plan_.total(Tier::device)), "device"),
        host_(engine_.backend->allocate_host(plan_.total(Tier::host), false), "host"),
        weights_(*engine_.backend, prepared(), placement_, {}, device_, host_),
        cache_(engine_, kv_shape(layout_), {}, device_, host_, host_, nullptr, nullptr, nullptr),
        activations_(*engine_.backend, activation_shape(layout_), {}, device_, host_, nullptr,
                     nullptr, nullptr),
        workspace_(layout_, device_, host_, host_) {
    workspace_.layer.mixture.backend = engine_.backend.get();
    upload_frequencies(*engine_.backend, layout_.model.positions, workspace_);
  }

  TensorView run_embedding(const std::vector<std::int32_t>& ids) {
    const auto tokens = static_cast<std::int32_t>(ids.size());
    const IndexBuffers& indices = workspace_.indices[0];
    for (std::int32_t i = 0; i < tokens; ++i) {  // the CPU's device memory is the host's
      indices.device_ids[i] = ids[static_cast<std::size_t>(i)];
      indices.device_positions[i] = i;
      indices.device_logit_rows[i] = i;
    }
    const offload::KvSequence sequence{0, 0, tokens, tokens};
    cache_.begin(0, std::span(&sequence, 1), 0);
    hidden_ = activations_.open(0, tokens, true);
    const auto lease = weights_.acquire(0, 0);
    embed(*engine_.device_ops, layout_.model, GroupWeights(lease), workspace_.layer,
          indices.device_ids, indices.device_positions, hidden_);
    weights_.release(lease);
    return done(hidden_);
  }

  TensorView run_layer(std::int32_t layer) {
    const auto lease = weights_.acquire(layer + 1, 0);
    attention_block(*engine_.device_ops, layout_.model, attention_of(lease), workspace_.layer,
                    {&cache_, layer, layer, 0, 0}, {}, workspace_.indices.front().device_positions,
                    hidden_);
    mlp_block(*engine_.device_ops, layout_.model, mlp_of(lease), workspace_.layer, {}, hidden_);
    cache_.store(layer, 0, workspace_.layer.keys[0].slice(0, hidden_.rows),
                 workspace_.layer.values[0].slice(0, hidden_.rows));
    weights_.release(lease);
    return done(hidden_);
  }

  /// Of the last run_head(): what its last product read.
  TensorView final_hidden() const {
    const HeadWorkspace& head = workspace_.head;
    return (layout_.model.projected() ? head.projected : head.selected).slice(0, hidden_.rows);
  }

  TensorView run_head() {
    const auto lease = weights_.acquire(layout_.model.layers + 1, 0);
    const auto rows = static_cast<std::int32_t>(hidden_.rows);
    const HeadRows head =
        output_head(*engine_.device_ops, layout_.model, GroupWeights(lease), workspace_.head,
                    hidden_, workspace_.indices[0].device_logit_rows, rows, rows);
    weights_.release(lease);
    return done(head.logits);
  }

 private:
  static launcher::RunConfig config_in(const std::filesystem::path& packed) {
    launcher::RunConfig config;
    config.packed_directory = packed;
    return config;
  }
  offload::WeightSource& prepared() {
    source_.prepare({});
    return source_.source();
  }
  TensorView done(TensorView view) {
    engine_.backend->synchronize(engine_.backend->record(Lane::compute));
    return view;
  }

  support::ScratchFolder packed_;
  StageLayout layout_;
  kernels::Engine engine_;
  std::unique_ptr<offload::DiskEngine> disk_;
  launcher::RankWeights source_;
  std::vector<offload::GroupPlacement> placement_;
  offload::MemoryPlan plan_;
  offload::Arena device_;
  offload::Arena host_;
  offload::WeightStream weights_;
  offload::KvCache cache_;
  offload::ActivationStore activations_;
  Workspace workspace_;
  TensorView hidden_;
};

/// `ids`: which columns `expected` has; empty: all.
void expect_near(const TensorView& view, const json& expected, const std::vector<std::size_t>& ids,
                 const std::string& what) {
  ASSERT_EQ(view.rows, static_cast<std::int64_t>(expected.size())) << what;
  for (std::int64_t row = 0; row < view.rows; ++row) {
    const auto* values = reinterpret_cast<const float*>(view.row(row));
    const auto line = expected[static_cast<std::size_t>(row)].get<std::vector<float>>();
    for (std::size_t i = 0; i < line.size(); ++i) {
      const float value = values[ids.empty() ? i : ids[i]];
      ASSERT_NEAR(value, line[i], 1e-4 * std::max(1.0F, std::abs(line[i])))
          << what << ", row " << row << ", column " << i;
    }
  }
}

class LayersTest : public testing::TestWithParam<std::string> {};

TEST_P(LayersTest, HiddenStatesAndLogitsAreHuggingFaces) {
  const std::string& name = GetParam();
  const std::filesystem::path folder = support::read_reference(name).folder;
  std::ifstream file(folder / "cases.json");
  const json layers = json::parse(file)["layers"];
  const launcher::OpenedModel model =
      launcher::open_checkpoint(launcher::open_model(folder.string()));
  ByHand by_hand(model);

  expect_near(by_hand.run_embedding(layers["input_ids"].get<std::vector<std::int32_t>>()),
              layers["embeddings"], {}, name + " embeddings");
  for (std::int32_t layer = 0; layer < model.folder.config.layers; ++layer) {
    expect_near(by_hand.run_layer(layer), layers["layer_outputs"][static_cast<std::size_t>(layer)],
                {}, name + " layer " + std::to_string(layer));
  }
  const TensorView logits = by_hand.run_head();
  if (layers.contains("final_hidden")) {
    expect_near(by_hand.final_hidden(), layers["final_hidden"], {}, name + " final hidden states");
  }
  if (layers.contains("logits")) {
    expect_near(logits, layers["logits"], {}, name + " logits");
  } else {
    expect_near(logits, layers["logits_sample"]["values"],
                layers["logits_sample"]["ids"].get<std::vector<std::size_t>>(), name + " logits");
  }
}

INSTANTIATE_TEST_SUITE_P(Opt, LayersTest, testing::ValuesIn(support::reference_names()),
                         support::test_name);
INSTANTIATE_TEST_SUITE_P(Families, LayersTest, testing::ValuesIn(support::family_names()),
                         support::test_name);

}  // namespace
}  // namespace sluice::stage
