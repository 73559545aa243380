#include "stage/workspace.h"

#include <algorithm>

namespace sluice::stage {

namespace {

/// Either counts bytes (planning) or takes them (arena). One list of buffers serves both, so the
/// plan and the arena cannot differ.
class Taker {
 public:
  explicit Taker(offload::Arena* arena, const char* purpose = "workspace")
      : arena_(arena), purpose_(purpose) {}

  TensorView matrix(std::int64_t rows, std::int64_t columns, DType dtype) {
    TensorView view{nullptr, dtype, rows, columns};
    view.data = take(view.bytes());
    return view;
  }
  /// Of plain numbers.
  template <class Element>
  Element* array(std::int64_t count) {
    return reinterpret_cast<Element*>(take(static_cast<std::uint64_t>(count) * sizeof(Element)));
  }
  std::int32_t* indices(std::int64_t count) { return array<std::int32_t>(count); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::byte* take(std::uint64_t bytes) {
    bytes_ += offload::arena_bytes(bytes);
    return arena_ != nullptr && bytes > 0 ? arena_->take(bytes, purpose_) : nullptr;
  }
  offload::Arena* arena_;
  const char* purpose_;
  std::uint64_t bytes_ = 0;
};

/// One for each reservation.
struct Takers {
  Taker device;
  Taker host;
  Taker control;
  Taker histories;
};

void take_layer(const StageLayout& layout, Taker& device, LayerWorkspace& layer) {
  const std::int64_t tokens = layout.tokens();
  const DecoderConfig& model = layout.model;
  const AttentionTraits& attention = model.attention;
  const DType dtype = layout.compute_dtype;
  // Attention's result is written when the normed states are no longer needed, so both share
  // memory.
  const std::int64_t mlp_tokens = layout.mlp_tokens();
  const TensorView shared =
      device.matrix(mlp_tokens, std::max(model.hidden, attention.query_width()), dtype);
  layer.normed = {shared.data, dtype, mlp_tokens, model.hidden};
  layer.attended = {shared.data, dtype, tokens, attention.query_width()};
  for (int set = 0; set < 2; ++set) {
    layer.query[set] = device.matrix(tokens, attention.query_width(), dtype);
    layer.keys[set] = device.matrix(tokens, attention.kv_width(), dtype);
    layer.values[set] = device.matrix(tokens, attention.kv_width(), dtype);
  }
  layer.mlp = device.matrix(mlp_tokens, model.widest_mlp(), dtype);
  if (model.sets_aside()) {
    layer.aside = device.matrix(mlp_tokens, model.hidden, dtype);
  }
  if (const std::int32_t rank = layout.adapter_rank(); rank > 0) {
    layer.adapted = device.matrix(mlp_tokens, rank, dtype).data;
    layer.adapted_mlp = device.matrix(mlp_tokens, model.widest_mlp(), dtype);
  }
  if (layout.first() && model.projected()) {
    layer.token_embedding = device.matrix(tokens, model.embedding.width, dtype);
  }
}

/// Every row may choose the same expert.
void take_mixture(const StageLayout& layout, Takers& takers, MixtureWorkspace& mixture) {
  const DecoderConfig& model = layout.model;
  const std::int64_t experts = model.mixture.experts;
  if (experts == 0) return;
  const std::int64_t tokens = layout.mlp_tokens();
  const std::int64_t choices = tokens * model.mixture.router.chosen;
  Taker& device = takers.device;
  mixture.logits = device.matrix(tokens, experts, DType::f32);
  mixture.gathered = device.matrix(tokens, model.hidden, layout.compute_dtype);
  mixture.result = device.matrix(tokens, model.hidden, layout.compute_dtype);
  mixture.sum = device.matrix(tokens, model.hidden, DType::f32);
  if (model.mixture.shared_switch) mixture.switches = device.matrix(tokens, 1, DType::f32);
  mixture.routed = {device.indices(experts), device.indices(choices), device.array<float>(choices),
                    device.indices(choices), device.array<float>(choices)};
  mixture.host_counts = takers.control.indices(experts);
}

void take_sampling(const StageLayout& layout, Taker& device, Taker& control,
                   SampleBuffers& sampling) {
  const std::int64_t rows = layout.logit_rows();
  const std::int64_t edits = layout.logit_edits();
  for (int set = 0; set < 2; ++set) {
    sampling.host_rows[set] = control.array<kernels::SampleRow>(rows);
    sampling.host_edits[set] = control.array<kernels::TokenEdit>(edits);
    sampling.host_masks[set] = control.array<std::uint32_t>(layout.logit_mask_words());
    sampling.host_results[set] = control.array<kernels::SampledRow>(rows);
  }
  sampling.device_rows = device.array<kernels::SampleRow>(rows);
  sampling.device_edits = device.array<kernels::TokenEdit>(edits);
  sampling.device_masks = device.array<std::uint32_t>(layout.logit_mask_words());
  sampling.device_results = device.array<kernels::SampledRow>(rows);
}

void take_head(const StageLayout& layout, Takers& takers, Workspace& workspace) {
  Taker& device = takers.device;
  const std::int64_t rows = layout.logit_rows();
  const DecoderConfig& model = layout.model;
  HeadWorkspace& head = workspace.head;
  head.selected = device.matrix(rows, model.hidden, layout.compute_dtype);
  if (model.projected()) {
    head.projected = device.matrix(rows, model.embedding.width, layout.compute_dtype);
  }
  head.logits = device.matrix(rows, model.vocabulary, DType::f32);
  workspace.histories = takers.histories.indices(
      std::int64_t{layout.batching.slots(layout.stages)} * layout.batching.max_sequence_tokens);
  workspace.rules = takers.histories.indices(std::int64_t{layout.batching.slots(layout.stages)} *
                                             layout.batching.max_rule_words);
  if (layout.batching.features > 0) {
    for (TensorView& features : workspace.host_features) {
      features = takers.control.matrix(rows, layout.batching.features, layout.compute_dtype);
    }
    workspace.feature_sums = takers.histories.array<double>(
        std::int64_t{layout.batching.slots(layout.stages)} * layout.batching.features);
  }
  if (layout.device_samples) {
    return take_sampling(layout, device, takers.control, workspace.sampling);
  }
  for (TensorView& logits : workspace.host_logits) {
    logits = takers.host.matrix(rows, model.vocabulary, DType::f32);
  }
}

/// Every stage needs positions. Ids are needed where tokens are embedded or judged.
void take_indices(const StageLayout& layout, Taker& place, std::int32_t*& ids,
                  std::int32_t*& positions, std::int32_t*& logit_rows) {
  positions = place.indices(layout.tokens());
  if (!layout.first() && !layout.last()) return;
  ids = place.indices(layout.tokens());
  logit_rows = place.indices(layout.tokens());
}

std::int64_t frequencies_of(const RotaryTraits& rotary) {
  return static_cast<std::int64_t>(rotary.frequencies.size() + rotary.long_frequencies.size());
}

void take_frequencies(const StageLayout& layout, Takers& takers, Workspace& workspace) {
  const PositionTraits& positions = layout.model.positions;
  if (positions.kind != PositionKind::rotary) return;
  std::int64_t count = 0;
  for (const RotaryTraits& rotary : positions.rotary) count += frequencies_of(rotary);
  workspace.host_frequencies = takers.control.array<float>(count);
  workspace.device_frequencies = takers.device.array<float>(count);
  const float* next = workspace.device_frequencies;
  for (const RotaryTraits& rotary : positions.rotary) {
    workspace.layer.frequencies.push_back(next);
    if (next != nullptr) next += frequencies_of(rotary);
  }
}

void take_all(const StageLayout& layout, Takers& takers, Workspace& workspace) {
  Taker& device = takers.device;
  Taker& host = takers.host;
  const std::int64_t tokens = layout.tokens();
  take_layer(layout, device, workspace.layer);
  take_mixture(layout, takers, workspace.layer.mixture);
  take_frequencies(layout, takers, workspace);
  if (layout.last()) take_head(layout, takers, workspace);
  for (std::int32_t i = 0; i < layout.buffers(); ++i) {
    IndexBuffers& indices = workspace.indices.emplace_back();
    take_indices(layout, takers.control, indices.host_ids, indices.host_positions,
                 indices.host_logit_rows);
    take_indices(layout, device, indices.device_ids, indices.device_positions,
                 indices.device_logit_rows);
    if (!layout.first()) {
      Taker& place = layout.device_channel ? device : host;
      workspace.received.push_back(place.matrix(tokens, layout.model.hidden, layout.compute_dtype));
    }
    if (!layout.last() && !layout.device_channel) {
      workspace.outgoing.push_back(host.matrix(tokens, layout.model.hidden, layout.compute_dtype));
    }
  }
}

}  // namespace

Workspace::Workspace(const StageLayout& layout, offload::Arena& device, offload::Arena& host,
                     offload::Arena& control) {
  Takers takers{Taker(&device), Taker(&host), Taker(&control, offload::kControl),
                Taker(&host, "histories")};
  take_all(layout, takers, *this);
}

WorkspaceBytes workspace_bytes(const StageLayout& layout) {
  Takers takers{Taker(nullptr), Taker(nullptr), Taker(nullptr), Taker(nullptr)};
  Workspace counted;  // only counted: its views point nowhere
  take_all(layout, takers, counted);
  return {takers.device.bytes(), takers.host.bytes(), takers.control.bytes(),
          takers.histories.bytes()};
}

void upload_frequencies(Backend& backend, const PositionTraits& positions,
                        const Workspace& workspace) {
  float* next = workspace.host_frequencies;
  if (next == nullptr) return;
  for (const RotaryTraits& rotary : positions.rotary) {
    next = std::ranges::copy(rotary.frequencies, next).out;
    next = std::ranges::copy(rotary.long_frequencies, next).out;
  }
  backend.copy(Lane::compute, workspace.device_frequencies, workspace.host_frequencies,
               static_cast<std::size_t>(next - workspace.host_frequencies) * sizeof(float));
}

}  // namespace sluice::stage
