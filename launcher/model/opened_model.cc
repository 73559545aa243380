#include "launcher/model/opened_model.h"

#include <utility>

#include "kernels/device/error.h"
#include "launcher/model/hub_cache.h"
#include "offload/checkpoint/digest.h"
#include "offload/checkpoint/weight_sample.h"
#include "stage/weight_groups.h"

namespace sluice::launcher {

namespace {

offload::Checkpoint open_files(const std::filesystem::path& folder) {
  try {
    return offload::Checkpoint::open(folder);
  } catch (const InputError& problem) {
    const std::string hint = weights_hint(folder);
    if (hint.empty()) throw;
    throw InputError(problem.what() + hint);
  }
}

}  // namespace

OpenedModel open_checkpoint(ModelFolder folder) {
  // Of a published shape alone there are no weights: this says so, and how to have them.
  if (folder.path.empty()) folder.path = find_in_hub_cache(folder.published);
  OpenedModel opened{std::move(folder), std::nullopt, {}};
  opened.checkpoint.emplace(open_files(opened.folder.path));
  opened.names = find_tensors(*opened.folder.family, *opened.checkpoint, opened.folder.config);
  opened.folder.digest = digest_of(opened.folder);
  return opened;
}

std::uint64_t digest_of(const OpenedModel& model) {
  offload::Digest digest;
  digest.add(model.folder.digest);
  if (model.checkpoint) {
    digest.add(model.checkpoint->digest());
    digest.add(offload::sample_of(*model.checkpoint));
  }
  return digest.value();
}

DType weight_dtype(const OpenedModel& model) {
  const offload::GroupSpec mlp = stage::mlp_group(model.folder.config, 0);
  const std::size_t up = model.folder.config.has_experts(0)
                             ? stage::expert_tensors(0) + stage::kExpertUp
                             : stage::kUpWeight;
  const auto stored = model.names.find(mlp.tensors[up].name);
  const offload::TensorRecord* matrix =
      stored == model.names.end() ? nullptr : model.checkpoint->find(stored->second.tensor);
  return matrix != nullptr ? matrix->dtype : model.folder.config.dtype;
}

}  // namespace sluice::launcher
