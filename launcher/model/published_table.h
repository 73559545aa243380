// The data of published_shapes.h: of each model's config.json the values that set shapes, types,
// positions and windows. Left out: ids of tokens (a family's own stand for them), the lists of
// factors for long contexts, and what matters in training only.
#pragma once

#include <cstddef>
#include <span>

namespace sluice::launcher {

/// What some models share.
struct PublishedFamily {
  const char* columns;           // keys of a model's numbers, in order
  const char* keys;              // of config.json
  const char* end = "";          // behind a model's keys
  bool has_short_names = false;  // without an owner, as they were first published
};

struct PublishedModel {
  std::size_t family;     // its place in published_families()
  const char* names;      // "owner/name{,-variant}"
  const char* numbers;    // of the first columns
  const char* keys = "";  // of config.json, beside the family's
};

std::span<const PublishedFamily> published_families();
std::span<const PublishedModel> published_models();

}  // namespace sluice::launcher
