#include "stage/adapters.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/half.h"
#include "offload/disk/disk_engine.h"
#include "stage/stage_memory.h"

namespace sluice::stage {

namespace {

using offload::Tier;
using offload::WeightSpec;

constexpr const char* kNames[kLayerProducts] = {
    "attention.query", "attention.key", "attention.value", "attention.output",
    "mlp.gate",        "mlp.up",        "mlp.down"};

constexpr std::int32_t kMostIdentity = 8;

/// Of the weight that is added to.
struct Widths {
  std::int64_t outputs;
  std::int64_t inputs;
};

Widths widths_of(const DecoderConfig& model, LayerProduct product) {
  switch (product) {
    case LayerProduct::query:
      return {model.attention.query_width(), model.hidden};
    case LayerProduct::key:
    case LayerProduct::value:
      return {model.attention.kv_width(), model.hidden};
    case LayerProduct::output:
      return {model.hidden, model.attention.query_width()};
    case LayerProduct::gate:
    case LayerProduct::up:
      return {model.mlp.width, model.hidden};
    default:
      return {model.hidden, model.mlp.width};
  }
}

bool is_in(const StageLayout& layout, const AdapterPart& part) {
  const std::int32_t first = layout.config.first_layer;
  return part.layer >= first && part.layer < first + layout.config.layers;
}

/// Calls `visit(adapter, part)` for what the stage has.
template <class Visitor>
void each_part(const StageLayout& layout, const Visitor& visit) {
  if (!layout.adapters) return;
  for (std::size_t i = 0; i < layout.adapters->size(); ++i) {
    for (const AdapterPart& part : (*layout.adapters)[i].parts) {
      if (is_in(layout, part)) visit(i, part);
    }
  }
}

/// Of A, or of B, for the width on the other side of it.
std::uint64_t elements_of(std::int32_t rank, std::int64_t width) {
  return static_cast<std::uint64_t>(rank) * static_cast<std::uint64_t>(width);
}

std::int64_t identity_width(const DecoderConfig& model) {
  return std::gcd(model.mlp.width, kMostIdentity);
}

std::uint64_t identity_elements(const DecoderConfig& model) {
  const auto width = static_cast<std::uint64_t>(identity_width(model));
  return width * width;
}

/// Room for the largest matrix: as it is stored, in f32 at most, and as it is wanted.
struct Staging {
  std::uint64_t stored = 0;
  std::uint64_t made = 0;
};

Staging staging_of(const StageLayout& layout) {
  std::uint64_t most = 0;
  each_part(layout, [&](std::size_t, const AdapterPart& part) {
    const Widths widths = widths_of(layout.model, part.product);
    most = std::max(most, elements_of(part.rank, std::max(widths.outputs, widths.inputs)));
  });
  if (most > 0) most = std::max(most, identity_elements(layout.model));
  return {most * sizeof(float), most * size_of(layout.compute_dtype)};
}

float value_at(const std::byte* values, DType dtype, std::uint64_t index) {
  const auto read = [&](auto value) {
    std::memcpy(&value, values + index * sizeof value, sizeof value);
    return value;
  };
  if (dtype == DType::f16) return kernels::from_f16(read(std::uint16_t{}));
  if (dtype == DType::bf16) return kernels::from_bf16(read(std::uint16_t{}));
  return read(float{});
}

void put(std::byte* values, DType dtype, std::uint64_t index, float value) {
  const auto write = [&](auto made) {
    std::memcpy(values + index * sizeof made, &made, sizeof made);
  };
  if (dtype == DType::f16) return write(kernels::to_f16(value));
  if (dtype == DType::bf16) return write(kernels::to_bf16(value));
  write(value);
}

class Loader {
 public:
  Loader(const StageLayout& layout, Backend& backend, offload::Arena& device, offload::Arena& host)
      : dtype_(layout.compute_dtype), backend_(backend), device_(device) {
    const Staging staging = staging_of(layout);
    if (staging.stored == 0) return;
    stored_ = host.take(staging.stored, "adapters");
    made_ = host.take(staging.made, "adapters");
  }

  bool has_work() const { return stored_ != nullptr; }

  SplitMatrix identity(std::int64_t width) {
    for (std::int64_t i = 0; i < width * width; ++i) {
      put(made_, dtype_, static_cast<std::uint64_t>(i), i % (width + 1) == 0 ? 1.0F : 0.0F);
    }
    return to_device(width, width);
  }

  SplitMatrix load(offload::WeightSource& source, const WeightSpec& spec, float scale) {
    const offload::WeightInfo info = source.find(spec);
    const auto count = static_cast<std::uint64_t>(spec.rows * spec.columns);
    offload::IoGroup reads;
    source.read(info, 0, count * size_of(info.dtype), stored_, reads);
    reads.wait();
    for (std::uint64_t i = 0; i < count; ++i) {
      put(made_, dtype_, i, scale * value_at(stored_, info.dtype, i));
    }
    return to_device(spec.rows, spec.columns);
  }

 private:
  /// What was made.
  SplitMatrix to_device(std::int64_t rows, std::int64_t columns) {
    TensorView view{nullptr, dtype_, rows, columns};
    view.data = device_.take(view.bytes(), "adapters");
    backend_.copy(Lane::host_to_device, view.data, made_, view.bytes());
    backend_.synchronize(backend_.record(Lane::host_to_device));
    return {view, {nullptr, dtype_, 0, columns}};
  }

  DType dtype_;
  Backend& backend_;
  offload::Arena& device_;
  std::byte* stored_ = nullptr;
  std::byte* made_ = nullptr;
};

}  // namespace

std::string product_name(LayerProduct product, const std::string& layer) {
  return fmt::format("layers.{}.{}", layer, kNames[static_cast<std::size_t>(product)]);
}

WeightSpec lower_spec(const DecoderConfig& model, const AdapterPart& part) {
  const std::string name = product_name(part.product, fmt::format("{}", part.layer));
  return {name + ".lora_A", part.rank, widths_of(model, part.product).inputs,
          offload::WeightUse::matrix};
}

WeightSpec upper_spec(const DecoderConfig& model, const AdapterPart& part) {
  const std::string name = product_name(part.product, fmt::format("{}", part.layer));
  return {name + ".lora_B", widths_of(model, part.product).outputs, part.rank,
          offload::WeightUse::matrix};
}

void AdapterWeights::plan(const StageLayout& layout, offload::MemoryPlan& plan) {
  std::uint64_t device = 0;
  each_part(layout, [&](std::size_t, const AdapterPart& part) {
    const Widths widths = widths_of(layout.model, part.product);
    for (const std::int64_t width : {widths.outputs, widths.inputs}) {
      device += offload::arena_bytes(elements_of(part.rank, width) * size_of(layout.compute_dtype));
    }
  });
  if (device == 0) return;
  device += offload::arena_bytes(identity_elements(layout.model) * size_of(layout.compute_dtype));
  const Staging staging = staging_of(layout);
  plan.reserve(Tier::device, "adapters", device);
  plan.reserve(Tier::host, "adapters",
               offload::arena_bytes(staging.stored) + offload::arena_bytes(staging.made));
}

AdapterWeights::AdapterWeights(const StageLayout& layout, Backend& backend,
                               std::span<offload::WeightSource* const> sources,
                               offload::Arena& device, offload::Arena& host)
    : layers_(layout.config.layers) {
  if (!layout.adapters) return;
  pairs_.resize(layout.adapters->size() * static_cast<std::size_t>(layers_));
  Loader loader(layout, backend, device, host);
  if (loader.has_work()) identity_ = loader.identity(identity_width(layout.model));
  each_part(layout, [&](std::size_t adapter, const AdapterPart& part) {
    const std::int32_t layer = part.layer - layout.config.first_layer;
    LayerPairs& pairs =
        pairs_[adapter * static_cast<std::size_t>(layers_) + static_cast<std::size_t>(layer)];
    pairs[static_cast<std::size_t>(part.product)] = {
        loader.load(*sources[adapter], lower_spec(layout.model, part), 1.0F),
        loader.load(*sources[adapter], upper_spec(layout.model, part), part.scale)};
  });
}

const AdapterWeights::Pair* AdapterWeights::find(std::int32_t adapter, std::int32_t layer,
                                                 LayerProduct product) const {
  const LayerPairs& pairs =
      pairs_[static_cast<std::size_t>(adapter) * static_cast<std::size_t>(layers_) +
             static_cast<std::size_t>(layer)];
  const Pair& pair = pairs[static_cast<std::size_t>(product)];
  return pair.lower.rows() > 0 ? &pair : nullptr;
}

bool LayerAdapters::adapt(LayerProduct product) const {
  return std::ranges::any_of(rows,
                             [&](const AdapterRows& of) { return find(of, product) != nullptr; });
}

}  // namespace sluice::stage
