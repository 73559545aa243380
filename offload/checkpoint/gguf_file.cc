#include "offload/checkpoint/gguf_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/device/error.h"
#include "offload/checkpoint/input_file.h"
#include "offload/checkpoint/little_endian.h"

namespace sluice::offload {

namespace {

constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{256} << 20U;  // far above any model's
constexpr std::int64_t kMostParts = 10'000;

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) {
  const InputFile file(path);
  name_ = file.name();
  file_bytes_ = file.bytes();
  std::uint64_t count = std::min<std::uint64_t>(file_bytes_, 1U << 20U);
  for (;; count = std::min(file_bytes_, 4 * count)) {
    if (count > kMaxHeaderBytes) {
      throw InputError(
          fmt::format("{} has a GGUF header of more than {} bytes, more than any model "
                      "has; fetch it again",
                      name_, kMaxHeaderBytes));
    }
    bytes_ = file.read(0, count);
    std::optional<GgufHeader> header = parse_gguf(bytes_, file_bytes_, name_);
    if (!header) continue;
    header_ = *std::move(header);
    return;
  }
}

void GgufFile::fail(std::string_view key, const std::string& what) const {
  throw InputError(
      fmt::format("{}: {} {}; take another file of the model", name_, printable(key), what));
}

const GgufEntry* GgufFile::find(std::string_view key) const {
  const auto entry = std::ranges::lower_bound(header_.entries, key, {}, &GgufEntry::key);
  return entry == header_.entries.end() || entry->key != key ? nullptr : &*entry;
}

const GgufEntry* GgufFile::find(std::string_view key, GgufType type, const char* wanted) const {
  const GgufEntry* const entry = find(key);
  if (entry != nullptr && entry->type != type) fail(key, fmt::format("is no {}", wanted));
  return entry;
}

std::optional<std::int64_t> GgufFile::integer(std::string_view key) const {
  const GgufEntry* const entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (!is_integer(entry->type)) fail(key, "is no integer");
  return integer_at(entry->bytes, 0, entry->type);
}

std::optional<double> GgufFile::real(std::string_view key) const {
  const GgufEntry* const entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (bytes_of(entry->type) == 0 || entry->type == GgufType::flag) fail(key, "is no number");
  return real_at(entry->bytes, 0, entry->type);
}

std::optional<bool> GgufFile::flag(std::string_view key) const {
  const GgufEntry* const entry = find(key, GgufType::flag, "true or false");
  return entry == nullptr ? std::nullopt : std::optional(entry->bytes.front() != '\0');
}

std::optional<std::string_view> GgufFile::text(std::string_view key) const {
  const GgufEntry* const entry = find(key, GgufType::text, "text");
  return entry == nullptr ? std::nullopt : std::optional(entry->bytes);
}

std::optional<std::vector<std::string_view>> GgufFile::texts(std::string_view key) const {
  const GgufEntry* const entry = find(key, GgufType::list, "list of texts");
  if (entry == nullptr) return std::nullopt;
  if (entry->element != GgufType::text) fail(key, "is no list of texts");
  std::vector<std::string_view> result;
  std::string_view rest = entry->bytes;  // its lengths were checked when it was read
  while (!rest.empty()) {
    const std::uint64_t length = little_endian(rest, 0, 8);
    result.push_back(rest.substr(8, length));
    rest.remove_prefix(8 + length);
  }
  return result;
}

std::optional<std::vector<std::int32_t>> GgufFile::integers(std::string_view key) const {
  const GgufEntry* const entry = find(key, GgufType::list, "list of integers");
  if (entry == nullptr) return std::nullopt;
  if (!is_integer(entry->element)) fail(key, "is no list of integers");
  std::vector<std::int32_t> result;
  for (std::size_t at = 0; at < entry->bytes.size(); at += bytes_of(entry->element)) {
    const std::int64_t value = integer_at(entry->bytes, at, entry->element);
    if (!std::in_range<std::int32_t>(value)) fail(key, "has an integer of more than 32 bits");
    result.push_back(static_cast<std::int32_t>(value));
  }
  return result;
}

std::optional<std::vector<float>> GgufFile::reals(std::string_view key) const {
  const GgufEntry* const entry = find(key, GgufType::list, "list of numbers");
  if (entry == nullptr) return std::nullopt;
  if (bytes_of(entry->element) == 0 || entry->element == GgufType::flag) {
    fail(key, "is no list of numbers");
  }
  std::vector<float> result;
  for (std::size_t at = 0; at < entry->bytes.size(); at += bytes_of(entry->element)) {
    result.push_back(static_cast<float>(real_at(entry->bytes, at, entry->element)));
  }
  return result;
}

bool is_gguf(const std::filesystem::path& path) {
  std::error_code error;
  return path.extension() == ".gguf" && !std::filesystem::is_directory(path, error);
}

// Source: llama_split_path() of llama.cpp: <prefix>-00001-of-00003.gguf.

bool is_later_gguf_part(const std::string& name) {
  constexpr std::string_view kEnd = "-00001-of-00001.gguf";
  if (name.size() < kEnd.size()) return false;
  const std::string_view end = std::string_view(name).substr(name.size() - kEnd.size());
  const auto is_number = [&](std::size_t at) {
    return end.find_first_not_of("0123456789", at) == at + 5;
  };
  return end[0] == '-' && is_number(1) && end.substr(6, 4) == "-of-" && is_number(10) &&
         end.substr(15) == ".gguf" && end.substr(1, 5) != "00001";
}

std::vector<std::filesystem::path> gguf_parts(const GgufFile& first) {
  const std::filesystem::path path = first.name();
  const std::int64_t count = first.integer("split.count").value_or(1);
  if (count < 1 || count > kMostParts) first.fail("split.count", fmt::format("is {}", count));
  if (count == 1) return {path};
  const std::string name = path.filename().string();
  const std::string end = fmt::format("-00001-of-{:05}.gguf", count);
  if (!name.ends_with(end) || first.integer("split.no").value_or(0) != 0) {
    throw InputError(fmt::format(
        "{} is one of {} files of a model, but not the first by its name and split.no; give the "
        "path of the first, whose name ends in {}",
        first.name(), count, end));
  }
  std::vector<std::filesystem::path> parts;
  const std::string prefix = name.substr(0, name.size() - end.size());
  for (std::int64_t i = 1; i <= count; ++i) {
    parts.push_back(path.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i, count));
    std::error_code error;
    if (std::filesystem::exists(parts.back(), error)) continue;
    throw InputError(fmt::format("{} is one of {} files of a model, but {} is not there; fetch it",
                                 first.name(), count, parts.back().string()));
  }
  return parts;
}

}  // namespace sluice::offload
