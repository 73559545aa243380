// A GGUF file's metadata, asked by key and type, and the files that one model may be divided into.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "offload/checkpoint/gguf.h"

namespace sluice::offload {

/// A GGUF file's header, asked by key. Every complaint names file and key.
class GgufFile {
 public:
  /// Throws InputError for what parse_gguf() refuses.
  explicit GgufFile(const std::filesystem::path& path);

  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& name() const { return name_; }
  std::uint64_t file_bytes() const { return file_bytes_; }
  const std::vector<TensorRecord>& tensors() const { return header_.tensors; }

  // Nothing where the key is absent. These throw InputError for a value of another type. Integers
  // may be of any width; a real may be an integer.
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> real(std::string_view key) const;
  std::optional<bool> flag(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  std::optional<std::vector<std::string_view>> texts(std::string_view key) const;
  /// Throws InputError for an element that 32 bits do not hold.
  std::optional<std::vector<std::int32_t>> integers(std::string_view key) const;
  std::optional<std::vector<float>> reals(std::string_view key) const;

  /// Throws InputError: the file, the key, `what`.
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;

 private:
  /// Null: absent.
  const GgufEntry* find(std::string_view key) const;
  const GgufEntry* find(std::string_view key, GgufType type, const char* wanted) const;

  std::string name_;
  std::uint64_t file_bytes_ = 0;
  std::string bytes_;  // of the header, and a little more
  GgufHeader header_;
};

/// A file whose name ends in .gguf, there or not. A folder of such a name is none.
bool is_gguf(const std::filesystem::path& path);
/// A name such as m-00002-of-00003.gguf: a file of a divided model, and not the first one.
bool is_later_gguf_part(const std::string& name);
/// All files of a divided model, in order, or the file itself. Throws InputError where `first` is
/// not the first of them, or one is not there.
std::vector<std::filesystem::path> gguf_parts(const GgufFile& first);

}  // namespace sluice::offload
