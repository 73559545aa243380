// A model folder with its checkpoint opened: headers only, no weight is read.
#pragma once

#include <optional>

#include "launcher/model/adapter_folder.h"
#include "launcher/model/model_folder.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/weights/stored_weights.h"

namespace sluice::launcher {

struct OpenedModel {
  ModelFolder folder;  // its head tied or not as the checkpoint stores it
  std::optional<offload::Checkpoint> checkpoint;  // none with dummy weights
  offload::StoredNames names;                     // where the checkpoint has the model's tensors
  OpenedAdapters adapters = {};                   // of the run
};

/// Opens the checkpoint in folder.path. Throws InputError.
OpenedModel open_checkpoint(ModelFolder folder);

/// What the model is, in one number: its folder's digest, its checkpoint's, and a sample of its
/// weights. Reads a few hundred KiB. Throws InputError.
std::uint64_t digest_of(const OpenedModel& model);

/// Of the matrices as they lie in the checkpoint; without one, config.json's.
DType weight_dtype(const OpenedModel& model);

}  // namespace sluice::launcher
