#include "launcher/model/opened_model.h"

#include <utility>

namespace sluice::launcher {

OpenedModel open_checkpoint(ModelFolder folder) {
  OpenedModel opened{std::move(folder), std::nullopt, {}};
  opened.checkpoint.emplace(offload::Checkpoint::open(opened.folder.path));
  opened.names = find_tensors(*opened.folder.family, *opened.checkpoint, opened.folder.config);
  opened.folder.digest = digest_of(opened.folder);
  return opened;
}

}  // namespace sluice::launcher
