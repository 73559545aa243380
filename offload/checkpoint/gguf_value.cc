#include "offload/checkpoint/gguf_value.h"

#include <algorithm>
#include <bit>

#include "offload/checkpoint/little_endian.h"

namespace sluice::offload {

namespace {

bool is_signed(GgufType type) {
  return type == GgufType::i8 || type == GgufType::i16 || type == GgufType::i32 ||
         type == GgufType::i64;
}

}  // namespace

std::uint64_t bytes_of(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::flag:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::text:
    case GgufType::list:
      break;
  }
  return 0;
}

bool is_integer(GgufType type) {
  return bytes_of(type) > 0 && type != GgufType::f32 && type != GgufType::f64 &&
         type != GgufType::flag;
}

std::int64_t integer_at(std::string_view bytes, std::size_t offset, GgufType type) {
  const auto width = static_cast<int>(bytes_of(type));
  const std::uint64_t value = little_endian(bytes, offset, width);
  const int unused = 64 - 8 * width;
  if (is_signed(type)) return static_cast<std::int64_t>(value << unused) >> unused;
  return static_cast<std::int64_t>(std::min<std::uint64_t>(value, INT64_MAX));
}

double real_at(std::string_view bytes, std::size_t offset, GgufType type) {
  if (type == GgufType::f32) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(little_endian(bytes, offset, 4)));
  }
  if (type == GgufType::f64) return std::bit_cast<double>(little_endian(bytes, offset, 8));
  return static_cast<double>(integer_at(bytes, offset, type));
}

}  // namespace sluice::offload
