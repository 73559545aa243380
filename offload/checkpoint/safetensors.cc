// The safetensors format: u64 header length, a JSON header, then one buffer without holes.
// Source: the format section of github.com/huggingface/safetensors (README.md).
#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/device/error.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/checkpoint/input_file.h"
#include "offload/checkpoint/json_walk.h"
#include "offload/checkpoint/little_endian.h"

namespace sluice::offload {

namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxDepth = 3;                    // name -> shape -> element

struct StoredType {
  std::string_view name;
  std::uint64_t bytes;
  std::optional<DType> dtype;  // none: checked, but no weight can be of it
};
constexpr std::array kStoredTypes = {
    StoredType{"F32", 4, DType::f32},       StoredType{"F16", 2, DType::f16},
    StoredType{"BF16", 2, DType::bf16},     StoredType{"F64", 8, std::nullopt},
    StoredType{"I64", 8, std::nullopt},     StoredType{"U64", 8, std::nullopt},
    StoredType{"I32", 4, std::nullopt},     StoredType{"U32", 4, std::nullopt},
    StoredType{"I16", 2, std::nullopt},     StoredType{"U16", 2, std::nullopt},
    StoredType{"I8", 1, std::nullopt},      StoredType{"U8", 1, std::nullopt},
    StoredType{"BOOL", 1, std::nullopt},    StoredType{"F8_E4M3", 1, std::nullopt},
    StoredType{"F8_E5M2", 1, std::nullopt},
};

struct Entry {
  std::string name;
  std::string dtype;
  std::optional<std::vector<std::uint64_t>> shape;
  std::optional<std::vector<std::uint64_t>> extent;  // data_offsets: begin, end in the buffer
};

using Kind = JsonValue::Kind;

class HeaderReader {
 public:
  explicit HeaderReader(const std::string& where) : where_(where) {}

  void visit(JsonPath path, const JsonValue& value) {
    if (path.empty()) return require(value.kind == Kind::object, path, "an object");
    if (path[0] == "__metadata__") {
      const bool map = path.size() == 1 ? value.kind == Kind::object : value.kind == Kind::text;
      return require(map, path, "a map of strings");
    }
    if (path.size() == 1) {
      require(value.kind == Kind::object, path, "an object");
      entries.emplace_back().name = path[0];
    } else if (path.size() == 2) {
      field(path, value);
    } else {
      require(value.kind == Kind::unsigned_integer, path, "whole numbers of 0 or more");
      Entry& entry = entries.back();
      (path[1] == "shape" ? entry.shape : entry.extent)->push_back(value.number);
    }
  }

  std::vector<Entry> entries;

 private:
  void field(JsonPath path, const JsonValue& value) {
    Entry& entry = entries.back();
    if (path[1] == "dtype") {
      require(value.kind == Kind::text, path, "a string");
      entry.dtype = value.text;
    } else if (path[1] == "shape" || path[1] == "data_offsets") {
      require(value.kind == Kind::array, path, "an array");
      (path[1] == "shape" ? entry.shape : entry.extent).emplace();
    } else {
      require(false, path, "dtype, shape or data_offsets");
    }
  }

  void require(bool good, JsonPath path, const char* wanted) const {
    if (good) return;
    throw InputError(
        fmt::format("{}: the safetensors header must have {} at \"{}\"; fetch the file "
                    "again",
                    where_, wanted, printable(fmt::format("{}", fmt::join(path, ".")))));
  }

  const std::string& where_;
};

std::string read_header(const InputFile& input) {
  if (input.bytes() < kLengthBytes) {
    throw InputError(fmt::format("{} has {} bytes, too few for a safetensors file; fetch it again",
                                 input.name(), input.bytes()));
  }
  const std::uint64_t length = little_endian(input.read(0, kLengthBytes), 0, 8);
  if (length > kMaxHeaderBytes || length > input.bytes() - kLengthBytes) {
    throw InputError(
        fmt::format("{}: the header length at offset 0 is {}, but the file has {} bytes "
                    "and a safetensors header at most {}; fetch the file again",
                    input.name(), length, input.bytes(), kMaxHeaderBytes));
  }
  std::string header = input.read(kLengthBytes, length);
  if (header.empty() || header.front() != '{') {
    throw InputError(
        fmt::format("{}: the safetensors header at offset {} does not start with '{{'; "
                    "fetch the file again",
                    input.name(), kLengthBytes));
  }
  return header;
}

[[noreturn]] void refuse(const std::string& file, const Entry& entry, const std::string& what) {
  throw InputError(fmt::format("{}: tensor \"{}\" {}", file, printable(entry.name), what));
}

// Null: a dtype that is not known.
const StoredType* stored_type(const Entry& entry) {
  const auto* type =
      std::ranges::find(kStoredTypes, std::string_view(entry.dtype), &StoredType::name);
  return type == kStoredTypes.end() ? nullptr : type;
}

std::string problem_of(const Entry& entry, const StoredType* type) {
  if (type == nullptr) {
    return fmt::format("has the dtype \"{}\", which is not known; convert it to F32, F16 or BF16",
                       printable(entry.dtype));
  }
  if (type->dtype) return {};
  return fmt::format("has the dtype {}; convert it to F32, F16 or BF16", type->name);
}

// Checks everything about one entry but its neighbours.
TensorRecord checked_record(const std::string& file, const Entry& entry,
                            std::uint64_t buffer_bytes) {
  const StoredType* const type = stored_type(entry);
  if (entry.dtype.empty() || !entry.shape || !entry.extent || entry.extent->size() != 2) {
    refuse(file, entry, "lacks dtype, shape or data_offsets of two numbers; fetch the file again");
  }
  const std::uint64_t begin = (*entry.extent)[0];
  const std::uint64_t end = (*entry.extent)[1];
  if (begin > end || end > buffer_bytes) {
    refuse(file, entry,
           fmt::format("lies at bytes {} to {} of a buffer of {} bytes; fetch the file "
                       "again",
                       begin, end, buffer_bytes));
  }
  TensorRecord record;
  record.name = entry.name;
  record.dtype = type == nullptr ? DType::f32 : type->dtype.value_or(DType::f32);
  record.problem = problem_of(entry, type);
  std::uint64_t bytes = type == nullptr ? 0 : type->bytes;
  for (const std::uint64_t extent : *entry.shape) {
    const bool too_large = extent > static_cast<std::uint64_t>(INT64_MAX) ||
                           __builtin_mul_overflow(bytes, extent, &bytes);
    if (too_large) refuse(file, entry, "has a shape beyond all sizes; fetch the file again");
    record.shape.push_back(static_cast<std::int64_t>(extent));
  }
  if (type == nullptr) bytes = end - begin;  // what an element takes is not known
  if (bytes != end - begin) {
    refuse(file, entry,
           fmt::format("needs {} bytes by its shape [{}], but data_offsets give {}; "
                       "fetch the file again",
                       bytes, fmt::join(*entry.shape, ", "), end - begin));
  }
  record.offset = begin;  // in the buffer, for now
  record.bytes = bytes;
  return record;
}

// The format allows neither holes nor overlaps: hidden data is as suspect as shared data.
void check_contiguous(const std::string& file, const std::vector<TensorRecord>& records,
                      std::uint64_t buffer_bytes) {
  std::uint64_t expected = 0;
  for (const TensorRecord& record : records) {
    if (record.offset != expected) {
      throw InputError(
          fmt::format("{}: tensor \"{}\" begins at byte {} of the buffer, but the one "
                      "before it ends at {}; fetch the file again",
                      file, printable(record.name), record.offset, expected));
    }
    expected += record.bytes;
  }
  if (expected != buffer_bytes) {
    throw InputError(
        fmt::format("{}: the tensors end at byte {} of a buffer of {} bytes; fetch the "
                    "file again",
                    file, expected, buffer_bytes));
  }
}

}  // namespace

std::vector<TensorRecord> read_safetensors(const std::filesystem::path& path, std::int32_t file) {
  const InputFile input(path);
  HeaderReader reader(input.name());
  std::uint64_t data_begin = kLengthBytes;
  {
    const std::string header = read_header(input);
    data_begin += header.size();
    walk_json(header, input.name(), kMaxDepth,
              [&](JsonPath at, const JsonValue& value) { reader.visit(at, value); });
  }

  const std::uint64_t buffer_bytes = input.bytes() - data_begin;
  std::vector<TensorRecord> records;
  for (const Entry& entry : reader.entries) {
    records.push_back(checked_record(input.name(), entry, buffer_bytes));
  }
  std::ranges::sort(records, {},
                    [](const TensorRecord& r) { return std::pair(r.offset, r.bytes); });
  check_contiguous(input.name(), records, buffer_bytes);
  for (TensorRecord& record : records) {
    record.file = file;
    record.offset += data_begin;
  }
  return records;
}

}  // namespace sluice::offload
