// Weights whose bytes are known: a function of the tensor's key and the offset. They lie in real
// files, one per tensor, and are read through the disk engine under test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "offload/weights/weight_source.h"

namespace sluice::support {

/// Odd strides: neighbouring offsets, rows and tensors differ.
inline std::byte pattern_byte(std::int32_t key, std::uint64_t offset) {
  const std::uint64_t mixed = (offset + 1) * 0x9E3779B97F4A7C15ULL ^
                              (static_cast<std::uint64_t>(key) + 7) * 0xC2B2AE3D27ULL;
  return static_cast<std::byte>(mixed >> 29U & 0xFFU);
}

class PatternSource : public offload::WeightSource {
 public:
  PatternSource(offload::DiskEngine& disk, std::filesystem::path folder, DType dtype = DType::f16)
      : disk_(disk), folder_(std::move(folder)), dtype_(dtype) {}

  offload::WeightInfo find(const offload::WeightSpec& spec) override {
    const auto [entry, fresh] =
        keys_.try_emplace(spec.name, static_cast<std::int32_t>(files_.size()));
    const offload::WeightInfo info{dtype_, spec.rows, spec.columns, entry->second};
    if (fresh) {
      files_.push_back(write_file(info));
    }
    return info;
  }

  void read(const offload::WeightInfo& tensor, std::uint64_t offset, std::size_t bytes,
            void* target, offload::IoGroup& group) override {
    disk_.read(files_.at(static_cast<std::size_t>(tensor.key)), offset, bytes, target, group);
  }
  offload::WeightExtent extent(const offload::WeightInfo& tensor, std::uint64_t offset,
                               std::size_t) override {
    return {&disk_, files_.at(static_cast<std::size_t>(tensor.key)), offset};
  }
  void keep_on_disk(const offload::WeightInfo& tensor, std::uint64_t offset,
                    std::size_t bytes) override {
    kept_.push_back({tensor.key, offset, bytes});
  }

  struct Range {
    std::int32_t key;
    std::uint64_t offset;
    std::size_t bytes;
  };
  const std::vector<Range>& kept() const { return kept_; }
  std::filesystem::path file_of(std::int32_t key) const {
    return folder_ / ("tensor-" + std::to_string(key));
  }

 private:
  offload::FileId write_file(const offload::WeightInfo& info) {
    const auto bytes = static_cast<std::uint64_t>(info.rows * info.columns) * size_of(info.dtype);
    std::string content(bytes, '\0');
    for (std::uint64_t i = 0; i < bytes; ++i) {
      content[i] = static_cast<char>(pattern_byte(info.key, i));
    }
    std::ofstream file(file_of(info.key), std::ios::binary);
    file << content;
    file.close();
    if (!file) throw IoError("cannot write " + file_of(info.key).string());
    return disk_.open_read(file_of(info.key));
  }

  offload::DiskEngine& disk_;
  std::filesystem::path folder_;
  DType dtype_;
  std::map<std::string, std::int32_t> keys_;
  std::vector<offload::FileId> files_;
  std::vector<Range> kept_;
};

}  // namespace sluice::support
