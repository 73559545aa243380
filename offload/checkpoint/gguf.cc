#include "offload/checkpoint/gguf.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>

#include "kernels/device/error.h"
#include "offload/checkpoint/block_format.h"
#include "offload/checkpoint/input_file.h"  // printable
#include "offload/checkpoint/little_endian.h"

namespace sluice::offload {

namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::uint64_t kUsualAlignment = 32;
constexpr std::uint64_t kMostAlignment = 1U << 20U;
// Bounds on memory, far above any model.
constexpr std::uint64_t kMostEntries = 1U << 16U;
constexpr std::uint64_t kMostTensors = 1U << 18U;
constexpr std::uint32_t kMostDimensions = 4;
/// A key's length, a type and a value of one byte.
constexpr std::uint64_t kLeastEntryBytes = 8 + 4 + 1;
/// A name's length, a number of dimensions, one of these, a type and an offset.
constexpr std::uint64_t kLeastTensorBytes = 8 + 4 + 8 + 4 + 8;

/// Types of tensors that a file may have; the number is ggml's.
struct StoredType {
  std::uint32_t number;
  std::string_view name;
  DType dtype = DType::f32;
  BlockFormat blocks = BlockFormat::none;
  bool is_read = false;
};
constexpr std::array kStoredTypes = {
    StoredType{0, "F32", DType::f32, BlockFormat::none, true},
    StoredType{1, "F16", DType::f16, BlockFormat::none, true},
    StoredType{30, "BF16", DType::bf16, BlockFormat::none, true},
    StoredType{2, "Q4_0", DType::f32, BlockFormat::q4_0, true},
    StoredType{8, "Q8_0", DType::f32, BlockFormat::q8_0, true},
    StoredType{12, "Q4_K", DType::f32, BlockFormat::q4_k, true},
    StoredType{14, "Q6_K", DType::f32, BlockFormat::q6_k, true},
    StoredType{3, "Q4_1"},
    StoredType{6, "Q5_0"},
    StoredType{7, "Q5_1"},
    StoredType{9, "Q8_1"},
    StoredType{10, "Q2_K"},
    StoredType{11, "Q3_K"},
    StoredType{13, "Q5_K"},
    StoredType{15, "Q8_K"},
    StoredType{16, "IQ2_XXS"},
    StoredType{17, "IQ2_XS"},
    StoredType{18, "IQ3_XXS"},
    StoredType{19, "IQ1_S"},
    StoredType{20, "IQ4_NL"},
    StoredType{21, "IQ3_S"},
    StoredType{22, "IQ2_S"},
    StoredType{23, "IQ4_XS"},
    StoredType{24, "I8"},
    StoredType{25, "I16"},
    StoredType{26, "I32"},
    StoredType{27, "I64"},
    StoredType{28, "F64"},
    StoredType{29, "IQ1_M"},
    StoredType{34, "TQ1_0"},
    StoredType{35, "TQ2_0"},
    StoredType{39, "MXFP4"},
};

/// Reads the beginning of a file from front to back. Where the beginning is too short, but the file
/// is not, is_short() becomes true, and every later value is zero or empty.
class HeaderReader {
 public:
  HeaderReader(std::string_view start, std::uint64_t file_bytes, const std::string& where)
      : start_(start), file_bytes_(file_bytes), where_(where) {}

  bool is_short() const { return is_short_; }
  std::uint64_t position() const { return at_; }
  std::uint64_t left_in_file() const { return file_bytes_ - at_; }

  std::string_view take(std::uint64_t bytes) {
    if (bytes > left_in_file()) {
      fail(fmt::format("needs {} bytes at offset {}, but the file ends at {}", bytes, at_,
                       file_bytes_));
    }
    if (is_short_ || bytes > start_.size() - at_) {
      is_short_ = true;
      return {};
    }
    const std::string_view taken = start_.substr(at_, bytes);
    at_ += bytes;
    return taken;
  }
  std::uint64_t number(int bytes) {
    const std::string_view taken = take(static_cast<std::uint64_t>(bytes));
    return taken.empty() ? 0 : little_endian(taken, 0, bytes);
  }
  std::string_view text() { return take(number(8)); }

  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("{}: the GGUF header {}; fetch the file again", where_, what));
  }

 private:
  std::string_view start_;
  std::uint64_t file_bytes_;
  const std::string& where_;
  std::uint64_t at_ = 0;
  bool is_short_ = false;
};

std::string shown(std::string_view text) { return fmt::format("\"{}\"", printable(text)); }

std::uint32_t read_version(HeaderReader& reader, const std::string& where) {
  const std::string_view magic = reader.take(4);
  const auto version = static_cast<std::uint32_t>(reader.number(4));
  if (reader.is_short()) return 0;
  if (magic != kMagic)
    throw InputError(where + " is no GGUF file: it does not begin with \"GGUF\"");
  if (version == 2 || version == 3) return version;
  if (version != 0 && (version & 0xFFFFU) == 0) {
    throw InputError(where + " is a big-endian GGUF file; convert the model on this machine");
  }
  throw InputError(
      fmt::format("{} is of version {} of GGUF, but only 2 and 3 are read; convert the model again",
                  where, version));
}

std::uint64_t read_count(HeaderReader& reader, const char* of, std::uint64_t most,
                         std::uint64_t least_bytes) {
  const std::uint64_t count = reader.number(8);
  if (count > most || count > reader.left_in_file() / least_bytes) {
    reader.fail(fmt::format("says that there are {} {}", count, of));
  }
  return count;
}

GgufEntry read_entry(HeaderReader& reader) {
  GgufEntry entry;
  entry.key = reader.text();
  entry.type = static_cast<GgufType>(reader.number(4));
  const auto refuse_type = [&](GgufType type) {
    reader.fail(fmt::format("gives {} a value of the unknown type {}", shown(entry.key),
                            static_cast<std::uint32_t>(type)));
  };
  if (reader.is_short()) return entry;
  if (entry.type == GgufType::text) {
    entry.bytes = reader.text();
    return entry;
  }
  if (entry.type != GgufType::list) {
    if (bytes_of(entry.type) == 0) refuse_type(entry.type);
    entry.bytes = reader.take(bytes_of(entry.type));
    return entry;
  }
  entry.element = static_cast<GgufType>(reader.number(4));
  entry.count = reader.number(8);
  if (reader.is_short()) return entry;
  const bool is_text = entry.element == GgufType::text;
  const std::uint64_t least = is_text ? 8 : bytes_of(entry.element);
  if (least == 0) refuse_type(entry.element);  // lists of lists, too
  if (entry.count > reader.left_in_file() / least) {
    reader.fail(fmt::format("gives {} {} elements, but only {} bytes follow", shown(entry.key),
                            entry.count, reader.left_in_file()));
  }
  if (!is_text) {
    entry.bytes = reader.take(entry.count * least);
    return entry;
  }
  const std::uint64_t begin = reader.position();
  std::string_view first;
  for (std::uint64_t i = 0; i < entry.count && !reader.is_short(); ++i) {
    const std::string_view length = reader.take(8);
    if (i == 0) first = length;
    if (!length.empty()) reader.take(little_endian(length, 0, 8));
  }
  if (entry.count > 0 && !reader.is_short()) {
    entry.bytes = {first.data(), static_cast<std::size_t>(reader.position() - begin)};
  }
  return entry;
}

/// The record's offset is one in the data behind the header: place_tensors() moves it.
TensorRecord read_tensor(HeaderReader& reader) {
  TensorRecord record;
  record.name = reader.text();
  const auto dimensions = static_cast<std::uint32_t>(reader.number(4));
  if (reader.is_short()) return record;
  const auto refuse = [&](const std::string& what) {
    reader.fail(fmt::format("has the tensor {} {}", shown(record.name), what));
  };
  if (dimensions < 1 || dimensions > kMostDimensions) {
    refuse(fmt::format("of {} dimensions", dimensions));
  }
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const std::uint64_t extent = reader.number(8);
    if (reader.is_short()) return record;
    if (extent < 1 || extent > static_cast<std::uint64_t>(INT64_MAX) ||
        __builtin_mul_overflow(elements, extent, &elements)) {
      refuse("of a shape beyond all sizes");
    }
    record.shape.insert(record.shape.begin(), static_cast<std::int64_t>(extent));
  }
  const auto number = static_cast<std::uint32_t>(reader.number(4));
  record.offset = reader.number(8);
  if (reader.is_short()) return record;
  const auto* const type = std::ranges::find(kStoredTypes, number, &StoredType::number);
  if (type == kStoredTypes.end() || !type->is_read) {
    const std::string name = type == kStoredTypes.end()
                                 ? fmt::format("{}, which is unknown", number)
                                 : std::string(type->name);
    record.problem = fmt::format(
        "has the type {}; only F32, F16, BF16, Q8_0, Q4_0, Q4_K and Q6_K are read, so take another "
        "file of the model",
        name);
    return record;
  }
  record.dtype = type->dtype;
  record.blocks = type->blocks;
  const auto in_block = static_cast<std::uint64_t>(block_elements(type->blocks));
  if (static_cast<std::uint64_t>(record.shape.back()) % in_block != 0) {
    refuse(fmt::format("whose rows of {} elements are no whole blocks of {}", record.shape.back(),
                       type->name));
  }
  const std::uint64_t unit =
      type->blocks == BlockFormat::none ? size_of(type->dtype) : block_bytes(type->blocks);
  if (__builtin_mul_overflow(elements / in_block, unit, &record.bytes)) {
    refuse("of a shape beyond all sizes");
  }
  return record;
}

template <class T, class Name>
void refuse_doubles(const HeaderReader& reader, std::vector<T>& sorted, const char* what,
                    Name name) {
  const auto twice = std::ranges::adjacent_find(sorted, {}, name);
  if (twice == sorted.end()) return;
  reader.fail(fmt::format("has the {} {} twice", what, shown(std::invoke(name, *twice))));
}

std::uint64_t alignment_of(const HeaderReader& reader, const std::vector<GgufEntry>& entries) {
  const auto entry = std::ranges::lower_bound(entries, kAlignmentKey, {}, &GgufEntry::key);
  if (entry == entries.end() || entry->key != kAlignmentKey) return kUsualAlignment;
  const std::int64_t value = is_integer(entry->type) ? integer_at(entry->bytes, 0, entry->type) : 0;
  const auto alignment = static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0));
  if (!std::has_single_bit(alignment) || alignment > kMostAlignment) {
    reader.fail(fmt::format("gives {} a value that is no power of two up to {}", kAlignmentKey,
                            kMostAlignment));
  }
  return alignment;
}

/// Makes offsets ones in the file, and checks the extents. Those of types that are not read are not
/// known.
void place_tensors(const HeaderReader& reader, std::uint64_t alignment, std::uint64_t file_bytes,
                   std::vector<TensorRecord>& tensors) {
  const std::uint64_t begin = (reader.position() + alignment - 1) / alignment * alignment;
  std::vector<const TensorRecord*> by_offset;
  for (TensorRecord& record : tensors) {
    std::uint64_t end = 0;
    const bool beyond = __builtin_add_overflow(record.offset, begin, &record.offset) ||
                        __builtin_add_overflow(record.offset, record.bytes, &end) ||
                        end > file_bytes;
    if (beyond) {
      reader.fail(fmt::format("has the tensor {} of {} bytes at offset {}, but the file ends at {}",
                              shown(record.name), record.bytes, record.offset, file_bytes));
    }
    if (record.offset % alignment != 0) {
      reader.fail(fmt::format("has the tensor {} at offset {}, which is no multiple of {}",
                              shown(record.name), record.offset, alignment));
    }
    by_offset.push_back(&record);
  }
  std::ranges::sort(by_offset, {}, [](const auto* record) { return record->offset; });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const TensorRecord& before = *by_offset[i - 1];
    if (by_offset[i]->offset < before.offset + before.bytes) {
      reader.fail(fmt::format("has the tensor {} over the tensor {}", shown(by_offset[i]->name),
                              shown(before.name)));
    }
  }
}

}  // namespace

std::optional<GgufHeader> parse_gguf(std::string_view start, std::uint64_t file_bytes,
                                     const std::string& where) {
  HeaderReader reader(start, file_bytes, where);
  GgufHeader header;
  header.version = read_version(reader, where);
  const std::uint64_t tensors = read_count(reader, "tensors", kMostTensors, kLeastTensorBytes);
  const std::uint64_t entries = read_count(reader, "keys", kMostEntries, kLeastEntryBytes);
  for (std::uint64_t i = 0; i < entries && !reader.is_short(); ++i) {
    header.entries.push_back(read_entry(reader));
  }
  for (std::uint64_t i = 0; i < tensors && !reader.is_short(); ++i) {
    header.tensors.push_back(read_tensor(reader));
  }
  if (reader.is_short()) return std::nullopt;
  std::ranges::sort(header.entries, {}, &GgufEntry::key);
  refuse_doubles(reader, header.entries, "key", &GgufEntry::key);
  place_tensors(reader, alignment_of(reader, header.entries), file_bytes, header.tensors);
  std::vector<const TensorRecord*> by_name;
  for (const TensorRecord& record : header.tensors) by_name.push_back(&record);
  const auto name = [](const TensorRecord* record) -> const std::string& { return record->name; };
  std::ranges::sort(by_name, {}, name);
  refuse_doubles(reader, by_name, "tensor", name);
  return header;
}

}  // namespace sluice::offload
