// Adapters as PEFT saves them: a folder with adapter_config.json and adapter_model.safetensors. The
// headers are read here; no value is.
// Source of keys and names: peft 0.17, tuners/lora/config.py and layer.py, utils/save_and_load.py.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "launcher/model/model_folder.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/weights/stored_weights.h"
#include "stage/adapters.h"

namespace sluice::launcher {

struct AdapterFolder {
  offload::Checkpoint checkpoint;
  offload::StoredNames names;  // of the matrices that stage::lower_spec() and upper_spec() name
  std::uint64_t digest = 0;    // of its name, its settings and a sample of its values
};

struct OpenedAdapters {
  std::shared_ptr<const stage::AdapterSpecs> specs;  // null: the run has none
  std::vector<AdapterFolder> folders;                // in their order
};

/// Of all of them: ranks compare it in the handshake.
std::uint64_t digest_of(const OpenedAdapters& adapters);

/// `texts`: "NAME=DIR" each. Modules are found by what the model's family calls them in a
/// checkpoint; of a fused one each of our products has the whole of A and its rows of B. Throws
/// ConfigError for a text that is none or a name that is there twice, InputError with file and key
/// or tensor for what cannot be read or run.
OpenedAdapters open_adapters(const std::vector<std::string>& texts, const ModelFolder& model);

}  // namespace sluice::launcher
