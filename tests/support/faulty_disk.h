// A disk engine that fails its k-th request and is a real one otherwise.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "offload/disk/disk_requests.h"

namespace sluice::support {

class FaultyDisk : public offload::DiskEngine {
 public:
  explicit FaultyDisk(std::unique_ptr<DiskEngine> real) : real_(std::move(real)) {}

  /// Request number `index` from now on (0: the next read or write) fails; -1: none.
  void fail_request(std::int64_t index, bool no_space = false) {
    no_space_ = no_space;
    left_.store(index);
  }
  /// Reads and writes since the start.
  std::int64_t requests() const { return requests_.load(); }
  /// Whether the failure asked for has happened.
  bool failed() const { return failed_.load(); }

  std::string description() const override { return "faulty " + real_->description(); }
  offload::FileId open_read(const std::filesystem::path& path) override {
    return real_->open_read(path);
  }
  offload::FileId open_read_checked(const std::filesystem::path& path,
                                    std::span<const std::uint32_t> sums) override {
    return real_->open_read_checked(path, sums);
  }
  offload::FileId create(const std::filesystem::path& path, std::uint64_t bytes) override {
    return real_->create(path, bytes);
  }
  std::uint64_t checksum_bytes() const override { return real_->checksum_bytes(); }
  void read(offload::FileId file, std::uint64_t offset, std::size_t bytes, void* target,
            offload::IoGroup& group) override {
    if (!fails(group)) real_->read(file, offset, bytes, target, group);
  }
  void read_superset(offload::FileId file, std::uint64_t offset, std::size_t bytes, void* room,
                     offload::IoGroup& group) override {
    if (!fails(group)) real_->read_superset(file, offset, bytes, room, group);
  }
  void write(offload::FileId file, std::uint64_t offset, std::size_t bytes, const void* source,
             offload::IoGroup& group) override {
    if (!fails(group)) real_->write(file, offset, bytes, source, group);
  }

 private:
  bool fails(offload::IoGroup& group) {
    requests_.fetch_add(1);
    if (left_.load() < 0 || left_.fetch_sub(1) != 0) return false;
    failed_.store(true);
    offload::DiskEngineAccess::start(group, 1);
    offload::DiskEngineAccess::fail(group, {no_space_, "injected failure"});
    offload::DiskEngineAccess::finish(group);
    return true;
  }

  std::unique_ptr<DiskEngine> real_;
  std::atomic<std::int64_t> left_{-1};
  std::atomic<std::int64_t> requests_{0};
  std::atomic<bool> failed_{false};
  bool no_space_ = false;
};

}  // namespace sluice::support
