// Which tensors each part of a decoder has, under sluice's own names ("layers.3.mlp.up.weight").
// What a checkpoint calls them is known to its family (launcher/model/families). A decoder layer is
// leased whole, as attention's tensors followed by the MLP's, or each group apart: the forward sees
// GroupWeights either way.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device/tensor_view.h"
#include "offload/weights/placement.h"
#include "offload/weights/weight_stream.h"
#include "stage/decoder_config.h"

namespace sluice::stage {

/// Positions of tensors within their group; absent tensors have no name and rows == 0.
enum EmbeddingTensor : std::size_t {
  kEmbeddingNormWeight,
  kEmbeddingNormBias,
  kEmbeddingProject,  // [hidden, embedding width]
  kPositions,         // [offset + positions, hidden]
  kTokens,            // [vocabulary, embedding width]
  kEmbeddingTensorCount
};
enum AttentionTensor : std::size_t {
  kAttentionNormWeight,
  kAttentionNormBias,
  kParallelNormWeight,  // of Residual::parallel: the norm of what the MLP reads
  kParallelNormBias,
  kAttentionOutNormWeight,  // of NormPlace::around
  kAttentionOutNormBias,
  kQueryNormWeight,  // [head width]
  kKeyNormWeight,    // [head width]
  kQueryBias,
  kKeyBias,
  kValueBias,
  kOutputBias,
  kQueryWeight,   // [query width, hidden]
  kKeyWeight,     // [KV width, hidden]
  kValueWeight,   // [KV width, hidden]
  kOutputWeight,  // [hidden, query width]
  kAttentionTensorCount
};
enum MlpTensor : std::size_t {
  kMlpNormWeight,
  kMlpNormBias,
  kMlpOutNormWeight,  // of NormPlace::around
  kMlpOutNormBias,
  kGateBias,
  kUpBias,
  kDownBias,
  kGateWeight,  // [MLP width, hidden], where the MLP is gated
  kUpWeight,    // [MLP width, hidden]
  kDownWeight,  // [hidden, MLP width]
  // Of a layer with experts, which has none of the last six:
  kRouterBias,
  kCorrection,     // [experts]
  kSharedSwitch,   // [1, hidden]
  kRouterWeight,   // [experts, hidden], never quantised
  kSharedGate,     // [shared width, hidden]
  kSharedUp,       // [shared width, hidden]
  kSharedDown,     // [hidden, shared width]
  kMlpTensorCount  // here the experts' tensors begin, kExpertTensorCount of each
};
enum ExpertTensor : std::size_t {
  kExpertGateBias,
  kExpertUpBias,
  kExpertDownBias,
  kExpertGate,  // [expert width, hidden]
  kExpertUp,    // [expert width, hidden]
  kExpertDown,  // [hidden, expert width]
  kExpertTensorCount
};
/// Where the tensors of an expert begin in the MLP's group.
constexpr std::size_t expert_tensors(std::int32_t expert) {
  return kMlpTensorCount + static_cast<std::size_t>(expert) * kExpertTensorCount;
}
enum HeadTensor : std::size_t {
  kHeadNormWeight,
  kHeadNormBias,
  kHeadProjectBias,
  kHeadProjectNormWeight,  // [embedding width]
  kHeadProjectNormBias,
  kHeadBias,     // [vocabulary]
  kHeadProject,  // [embedding width, hidden]
  kHeadTokens,   // [vocabulary, embedding width]
  kHeadTensorCount
};

offload::GroupSpec embedding_group(const DecoderConfig& model);
offload::GroupSpec attention_group(const DecoderConfig& model, std::int32_t layer);
offload::GroupSpec mlp_group(const DecoderConfig& model, std::int32_t layer);
/// Attention's tensors, then the MLP's from kAttentionTensorCount on.
offload::GroupSpec layer_group(const DecoderConfig& model, std::int32_t layer);
offload::GroupSpec head_group(const DecoderConfig& model);

/// A group's tensors within a lease, which may hold other groups before it. The lease must outlive
/// it.
class GroupWeights {
 public:
  explicit GroupWeights(const offload::WeightStream::Lease& lease, std::size_t first = 0)
      : lease_(&lease), first_(first) {}

  const SplitMatrix& matrix(std::size_t tensor) const { return lease_->tensor(first_ + tensor); }
  /// One row is never split: it lies in one of the two places, or is absent (no rows).
  TensorView vector(std::size_t tensor) const {
    const SplitMatrix& split = matrix(tensor);
    return split.resident.rows > 0 ? split.resident : split.streamed;
  }

 private:
  const offload::WeightStream::Lease* lease_;
  std::size_t first_;
};

/// Of a decoder layer that was leased whole.
inline GroupWeights attention_of(const offload::WeightStream::Lease& layer) {
  return GroupWeights(layer);
}
inline GroupWeights mlp_of(const offload::WeightStream::Lease& layer) {
  return GroupWeights(layer, kAttentionTensorCount);
}

}  // namespace sluice::stage
