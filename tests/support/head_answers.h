// What tests of the head ask it for, and what they answer in the place of the last stage.
#pragma once

#include <cstdint>

#include "stage/pass.h"
#include "stage/request.h"

namespace sluice::support {

inline stage::Request request_of(std::int32_t prompt, std::int32_t max_tokens) {
  stage::Request request;
  for (std::int32_t i = 0; i < prompt; ++i) request.prompt.push_back(i + 3);
  request.max_tokens = max_tokens;
  return request;
}

/// Answers every sampled row with token 100 + position.
inline stage::PassResults answer(const stage::Pass& pass) {
  stage::PassResults results;
  results.number = pass.number;
  results.micro_batch = pass.micro_batch;
  for (const stage::PassRow& row : pass.rows) {
    if (!row.sample) continue;
    results.add(row.slot, -1, {100 + row.position + row.new_tokens, 0.0F, {}});
  }
  return results;
}

}  // namespace sluice::support
