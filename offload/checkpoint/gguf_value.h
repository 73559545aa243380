// Values of a GGUF file's metadata: types, and numbers as they lie in the file.
// Source: docs/gguf.md of github.com/ggml-org/ggml.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::offload {

/// The numbers are the format's.
enum class GgufType : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  flag,
  text,
  list,
  u64,
  i64,
  f64
};

/// One value of the metadata. Views lead into the header's bytes.
struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::u8;
  GgufType element = GgufType::u8;  // of a list
  std::uint64_t count = 0;          // elements of a list
  std::string_view bytes;           // of the value, of all elements; of a text, the text
};

/// Bytes of a number or flag; 0 for texts, lists and unknown types.
std::uint64_t bytes_of(GgufType type);
bool is_integer(GgufType type);

/// The integer at `offset`; a larger one than INT64_MAX becomes INT64_MAX. Pre: is_integer(type),
/// and the bytes are there.
std::int64_t integer_at(std::string_view bytes, std::size_t offset, GgufType type);
/// The number at `offset`. Pre: the bytes are there.
double real_at(std::string_view bytes, std::size_t offset, GgufType type);

}  // namespace sluice::offload
