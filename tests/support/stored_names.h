// Names for tests that know a checkpoint's tensors by what follows a prefix.
#pragma once

#include <string>

#include "offload/weights/stored_weights.h"

namespace sluice::support {

inline offload::StoredNames without_prefix(const offload::Checkpoint& checkpoint,
                                           const std::string& prefix) {
  offload::StoredNames names;
  for (const offload::TensorRecord& record : checkpoint.tensors()) {
    if (!record.name.starts_with(prefix)) continue;
    names[record.name.substr(prefix.size())] = {record.name, {}};
  }
  return names;
}

}  // namespace sluice::support
