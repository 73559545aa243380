// GGUF files of a test's own, right or wrong. The numbers of types are the format's.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/file_bytes.h"

namespace sluice::support {

class GgufBytes {
 public:
  explicit GgufBytes(std::uint32_t version = 3) : version_(version) {}

  GgufBytes& add(const std::string& key, std::uint32_t value) {
    return add_raw(key, 4, little(value, 4));
  }
  GgufBytes& add(const std::string& key, float value) {
    return add_raw(key, 6, little(std::bit_cast<std::uint32_t>(value), 4));
  }
  GgufBytes& add(const std::string& key, bool value) {
    return add_raw(key, 7, little(value ? 1 : 0, 1));
  }
  GgufBytes& add(const std::string& key, const char* value) { return add_raw(key, 8, text(value)); }
  GgufBytes& add(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes;
    for (const std::string& value : values) bytes += text(value);
    return add_raw(key, 9, little(8, 4) + little(values.size(), 8) + bytes);
  }
  GgufBytes& add(const std::string& key, const std::vector<std::int32_t>& values) {
    std::string bytes;
    for (const std::int32_t value : values) bytes += little(static_cast<std::uint32_t>(value), 4);
    return add_raw(key, 9, little(5, 4) + little(values.size(), 8) + bytes);
  }
  GgufBytes& add(const std::string& key, const std::vector<float>& values) {
    std::string bytes;
    for (const float value : values) bytes += little(std::bit_cast<std::uint32_t>(value), 4);
    return add_raw(key, 9, little(6, 4) + little(values.size(), 8) + bytes);
  }
  /// Of any type, with the bytes behind the type's number.
  GgufBytes& add_raw(const std::string& key, std::uint32_t type, const std::string& bytes) {
    entries_.push_back(text(key) + little(type, 4) + bytes);
    return *this;
  }

  /// `extents`: as the format has them, columns first. `data` is put behind that of the tensors
  /// before it, at the next multiple of 32.
  GgufBytes& tensor(const std::string& name, const std::vector<std::uint64_t>& extents,
                    std::uint32_t type, const std::string& data) {
    data_.resize((data_.size() + 31) / 32 * 32, '\0');
    describe(name, extents, type, data_.size());
    data_ += data;
    return *this;
  }
  /// A tensor that says that it lies at `offset` of the data.
  GgufBytes& describe(const std::string& name, const std::vector<std::uint64_t>& extents,
                      std::uint32_t type, std::uint64_t offset) {
    std::string bytes = text(name) + little(extents.size(), 4);
    for (const std::uint64_t extent : extents) bytes += little(extent, 8);
    tensors_.push_back(bytes + little(type, 4) + little(offset, 8));
    return *this;
  }

  std::string header() const {
    std::string bytes =
        "GGUF" + little(version_, 4) + little(tensors_.size(), 8) + little(entries_.size(), 8);
    for (const std::string& entry : entries_) bytes += entry;
    for (const std::string& tensor : tensors_) bytes += tensor;
    return bytes;
  }
  std::string bytes() const {
    std::string bytes = header();
    bytes.resize((bytes.size() + 31) / 32 * 32, '\0');
    return bytes + data_;
  }

  static std::string text(const std::string& value) { return little(value.size(), 8) + value; }

 private:
  std::uint32_t version_;
  std::vector<std::string> entries_;
  std::vector<std::string> tensors_;
  std::string data_;
};

}  // namespace sluice::support
