// Low-rank adapters (Hu et al., "LoRA", 2021): rows of a batch may each have one of the run's,
// which adds scale * B (A x) to products W x of the decoder's layers. They lie in device memory,
// each stage has those of its own layers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"
#include "offload/memory_plan.h"
#include "offload/weights/weight_source.h"
#include "stage/decoder_config.h"

namespace sluice::stage {

struct StageLayout;

/// The products of a decoder layer.
enum class LayerProduct : std::uint8_t { query, key, value, output, gate, up, down };
constexpr std::size_t kLayerProducts = 7;

/// What an adapter has for one product of one layer.
struct AdapterPart {
  std::int32_t layer = 0;  // of the model
  LayerProduct product = LayerProduct::query;
  std::int32_t rank = 0;  // >= 1: rows of A, columns of B
  float scale = 1.0F;
};

struct AdapterSpec {
  std::string name;
  std::vector<AdapterPart> parts;  // of a product at most one
};
using AdapterSpecs = std::vector<AdapterSpec>;

/// Our name of the product's weight without its ending: "layers.3.attention.query". `layer` '*'
/// gives the family pages' form.
std::string product_name(LayerProduct product, const std::string& layer);
/// The matrices of a part: ".lora_A" [rank, inputs] and ".lora_B" [outputs, rank] behind that name.
offload::WeightSpec lower_spec(const DecoderConfig& model, const AdapterPart& part);
offload::WeightSpec upper_spec(const DecoderConfig& model, const AdapterPart& part);

/// Neighbouring rows of a GPU batch whose sequences have the same adapter.
struct AdapterRows {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int32_t adapter = 0;
};

/// The adapters' matrices of a stage's layers, of the compute dtype; those called B times their
/// scale.
class AdapterWeights {
 public:
  struct Pair {
    SplitMatrix lower;  // A [rank, inputs]
    SplitMatrix upper;  // B [outputs, rank]
  };

  /// Reserves "adapters": on the device the matrices, on the host what they are read through.
  /// Nothing where the run has none.
  static void plan(const StageLayout& layout, offload::MemoryPlan& plan);

  /// Loads; takes from the arenas what plan() reserved. `sources`: of StageLayout::adapters, in
  /// order. Throws IoError, InputError.
  AdapterWeights(const StageLayout& layout, Backend& backend,
                 std::span<offload::WeightSource* const> sources, offload::Arena& device,
                 offload::Arena& host);

  /// Null: the adapter adds nothing to the product. `layer` counts this stage's layers.
  const Pair* find(std::int32_t adapter, std::int32_t layer, LayerProduct product) const;
  /// The identity [w, w], where w divides the MLP's width.
  const SplitMatrix& identity() const { return identity_; }

 private:
  using LayerPairs = std::array<Pair, kLayerProducts>;
  std::int32_t layers_;
  std::vector<LayerPairs> pairs_;  // [adapters, layers]
  SplitMatrix identity_;
};

/// The adapters of the rows at hand, in one layer.
struct LayerAdapters {
  const AdapterWeights* weights = nullptr;  // null: no row has one
  std::int32_t layer = 0;                   // counts the stage's layers
  std::span<const AdapterRows> rows = {};   // in order, apart from each other

  const AdapterWeights::Pair* find(const AdapterRows& of, LayerProduct product) const {
    return weights == nullptr ? nullptr : weights->find(of.adapter, layer, product);
  }
  bool adapt(LayerProduct product) const;  // any of the rows
};

}  // namespace sluice::stage
