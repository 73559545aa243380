// What stands in every part of an answer.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/json/json.h"

namespace sluice::launcher {

struct CompletionName {
  std::string id;            // "cmpl-..."
  std::string model;         // as the client asked for it
  std::int64_t created = 0;  // Unix seconds
};

/// {"id", "object", "created", "model"}.
inline Json head_of(const CompletionName& name, const char* object) {
  return {{"id", name.id}, {"object", object}, {"created", name.created}, {"model", name.model}};
}

}  // namespace sluice::launcher
