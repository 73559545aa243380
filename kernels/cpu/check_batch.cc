#include <fmt/core.h>

#include <algorithm>

#include "kernels/cpu/operations.h"
#include "kernels/device/error.h"

namespace sluice::kernels {

void check_batch(const char* operation, const KvPages& cache, const KvBatch& batch,
                 std::int64_t rows, std::int32_t window) {
  const auto refuse = [&](std::int32_t sequence, const char* what, std::int64_t value) {
    throw DeviceError(
        fmt::format("{}: sequence {} of {}: {} is {}, impossible with {} rows and "
                    "{} pages of {} tokens; this is a bug of the caller",
                    operation, sequence, batch.sequences, what, value, rows, batch.max_pages,
                    cache.page_tokens));
  };
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t new_tokens = batch.new_tokens[s];
    const std::int64_t context = batch.context[s];
    const std::int64_t first_row = batch.first_row[s];
    if (new_tokens < 1 || new_tokens > rows) refuse(s, "new_tokens", new_tokens);
    if (first_row < 0 || first_row > rows - new_tokens) refuse(s, "first_row", first_row);
    const std::int64_t pages = (context + cache.page_tokens - 1) / cache.page_tokens;
    if (context < new_tokens || pages > batch.max_pages) refuse(s, "context", context);
    const std::int32_t* table = batch.pages + std::int64_t{s} * batch.max_pages;
    // The first new token sees the oldest key.
    const std::int64_t out_of_sight = window > 0 ? context - new_tokens + 1 - window : 0;
    const std::int64_t first_page = std::max<std::int64_t>(0, out_of_sight) / cache.page_tokens;
    for (std::int64_t i = first_page; i < pages; ++i) {
      if (table[i] < 0) refuse(s, "a page number", table[i]);
    }
  }
}

}  // namespace sluice::kernels
