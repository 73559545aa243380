#include "stage/warm_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device/cpu_backend.h"
#include "offload/weights/weight_source.h"

namespace sluice::stage {
namespace {

using testing::ElementsAre;

/// Writes down each product as "rows x inputs -> outputs", and each id that is looked up.
class Products final : public kernels::Ops {
 public:
  explicit Products(Backend& backend) : backend_(backend) {}

  void gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override {
    look_up(out.rows, table, ids);
  }
  void gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override {
    look_up(out.rows, table, ids);
  }
  void select_rows(TensorView out, TensorView in, const std::int32_t* rows) override {
    look_up(out.rows, {in, {}}, rows);
  }
  void layer_norm(TensorView, TensorView, TensorView, TensorView, float) override {}
  void linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView,
              kernels::Activation, TensorView) override {
    EXPECT_EQ(weight.rows(), out.columns);
    EXPECT_EQ(weight.columns(), in.columns);
    EXPECT_EQ(out.rows, in.rows);
    products.push_back(std::to_string(in.rows) + " x " + std::to_string(in.columns) + " -> " +
                       std::to_string(out.columns));
  }
  void linear_times(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                    TensorView factor) override {
    EXPECT_EQ(factor.columns, out.columns);
    linear(out, in, weight, bias, kernels::Activation::none, {});
  }
  void rms_norm(TensorView, TensorView, TensorView, float, float) override {}
  void rotate(TensorView, const kernels::Rotation&, const std::int32_t*) override {}
  void scale(TensorView, float) override {}
  void soft_cap(TensorView, float) override {}
  void add(TensorView, TensorView) override {}
  void widen_rows(TensorView, TensorView) override {}
  void clear(TensorView) override {}
  void clamp(TensorView, float) override {}
  void route(const kernels::RoutedRows&, TensorView, TensorView,
             const kernels::RouterRule&) override {}
  void add_rows(TensorView, TensorView, const kernels::RowFactors&) override {}
  void append_kv(const kernels::KvPages&, const kernels::KvBatch&, TensorView,
                 TensorView) override {
    ADD_FAILURE() << "nothing is attended to";
  }
  void attention(TensorView, TensorView, const kernels::KvPages&, const kernels::KvBatch&,
                 const kernels::AttentionRule&) override {
    ADD_FAILURE() << "nothing is attended to";
  }
  void sample(kernels::SampledRow*, TensorView, const kernels::SampleRow*,
              const kernels::SampleLists&) override {
    ADD_FAILURE() << "nothing is sampled";
  }

  std::vector<std::string> products;

 private:
  void look_up(std::int64_t rows, const SplitMatrix& table, const std::int32_t* ids) {
    backend_.synchronize(backend_.record(Lane::compute));  // the ids come on that lane
    for (std::int64_t i = 0; i < rows; ++i) EXPECT_LT(ids[i], table.rows());
  }

  Backend& backend_;
};

/// The products of the warm-up of stage `stage` of `stages`.
std::vector<std::string> products_of(std::int32_t stage, std::int32_t stages) {
  StageLayout layout;
  layout.model.layers = stages;
  layout.model.hidden = 8;
  layout.model.embedding.width = 6;
  layout.model.attention = {6, 2, 4, true, true, 0.5F};
  layout.model.mlp.width = 32;
  layout.model.vocabulary = 50;
  layout.model.max_positions = 16;
  layout.config.layers = 1;
  layout.config.first_layer = stage;
  layout.batching.gpu_batch_size = 3;
  layout.batching.max_tokens_per_gpu_batch = 16;
  layout.batching.max_sequence_tokens = 16;
  layout.stage = stage;
  layout.stages = stages;

  BackendInfo info;
  info.kind = "cpu";
  kernels::Engine engine;
  engine.backend = std::make_unique<CpuBackend>(info, nullptr);
  auto ops = std::make_unique<Products>(*engine.backend);
  Products& seen = *ops;
  engine.device_ops = std::move(ops);
  const auto disk = offload::DiskEngine::make({});
  const auto source = offload::make_dummy_source(DType::f32, *disk, {});
  const auto placed = offload::place_weights(layer_specs(layout), {}, *source);
  offload::MemoryPlan plan;
  offload::WeightStream::plan(placed, {}, plan);
  offload::ActivationStore::plan(activation_shape(layout), {}, plan);
  const WorkspaceBytes bytes = workspace_bytes(layout);
  plan.reserve(offload::Tier::device, "workspace", bytes.device);
  plan.reserve(offload::Tier::host, "workspace", bytes.host + bytes.histories);
  offload::Arena device(engine.backend->allocate_device(plan.total(offload::Tier::device)),
                        "device");
  offload::Arena host(engine.backend->allocate_host(plan.total(offload::Tier::host), false),
                      "host");
  offload::Arena control(engine.backend->allocate_host(bytes.control, true), offload::kControl);
  offload::WeightStream weights(*engine.backend, *source, placed, {}, device, host);
  offload::ActivationStore activations(*engine.backend, activation_shape(layout), {}, device, host,
                                       nullptr, nullptr, nullptr);
  Workspace workspace(layout, device, host, control);
  warm_up(layout, engine, weights, activations, workspace);
  return seen.products;
}

TEST(WarmUpTest, EveryProductOfAPassComesWithMostRowsAndWithThoseOfDecoding) {
  EXPECT_THAT(
      products_of(0, 1),
      ElementsAre("16 x 6 -> 8", "16 x 8 -> 24", "16 x 8 -> 8", "16 x 8 -> 8", "16 x 24 -> 8",
                  "16 x 8 -> 32", "16 x 32 -> 8", "3 x 8 -> 6", "3 x 6 -> 50", "3 x 6 -> 8",
                  "3 x 8 -> 24", "3 x 8 -> 8", "3 x 8 -> 8", "3 x 24 -> 8", "3 x 8 -> 32",
                  "3 x 32 -> 8", "3 x 8 -> 6", "3 x 6 -> 50"));
}

TEST(WarmUpTest, AStageInTheMiddleHasItsLayerAlone) {
  EXPECT_THAT(products_of(1, 3),
              ElementsAre("16 x 8 -> 24", "16 x 8 -> 8", "16 x 8 -> 8", "16 x 24 -> 8",
                          "16 x 8 -> 32", "16 x 32 -> 8", "3 x 8 -> 24", "3 x 8 -> 8", "3 x 8 -> 8",
                          "3 x 24 -> 8", "3 x 8 -> 32", "3 x 32 -> 8"));
  EXPECT_EQ(products_of(0, 3).size(), 14U);
  EXPECT_EQ(products_of(2, 3).size(), 16U);
}

}  // namespace
}  // namespace sluice::stage
