// GGUF, the one file that llama.cpp keeps a model in: metadata by key, a list of tensors, and their
// bytes. Versions 2 and 3, little-endian.
// Source: docs/gguf.md of github.com/ggml-org/ggml; ggml/src/gguf.cpp of ggml-org/llama.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "offload/checkpoint/checkpoint.h"
#include "offload/checkpoint/gguf_value.h"

namespace sluice::offload {

struct GgufHeader {
  std::uint32_t version = 0;
  std::vector<GgufEntry> entries;     // sorted by key
  std::vector<TensorRecord> tensors;  // in the file's order; of file 0
};

/// Reads the header from `start`, the first bytes of a file of `file_bytes`. Nothing: the header is
/// longer than `start`. The result keeps views into `start`. Checks all that a file can get wrong:
/// counts and lengths against the file's bytes, keys and tensors that are there twice, alignment,
/// extents beyond the file or over one another. Throws InputError naming `where` and the key, the
/// tensor or the offset. Memory is bounded by a small multiple of `start.size()`.
std::optional<GgufHeader> parse_gguf(std::string_view start, std::uint64_t file_bytes,
                                     const std::string& where);

}  // namespace sluice::offload
