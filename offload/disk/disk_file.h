// A file of the disk engine: how it was opened, and the checksums of its blocks. A part of the
// engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace sluice::offload {

struct DiskOptions;

class DiskFile {
 public:
  /// As DiskEngine's functions of the same names, and throwing the same.
  static std::unique_ptr<DiskFile> open_read(const std::filesystem::path& path,
                                             const DiskOptions& options);
  static std::unique_ptr<DiskFile> open_read_checked(const std::filesystem::path& path,
                                                     std::span<const std::uint32_t> sums,
                                                     const DiskOptions& options);
  static std::unique_ptr<DiskFile> create(const std::filesystem::path& path, std::uint64_t bytes,
                                          const DiskOptions& options);
  ~DiskFile();
  DiskFile(const DiskFile&) = delete;
  DiskFile& operator=(const DiskFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  std::uint64_t bytes() const { return bytes_; }  // when it was opened
  bool created() const { return created_; }
  /// Past the page cache: offsets, lengths and memory are multiples of kDiskBlock.
  bool direct() const { return direct_; }
  /// Why not: "O_DIRECT refused for FILE: Invalid argument (EINVAL)".
  const std::string& reason() const { return reason_; }
  bool is_small() const { return small_; }
  bool checked() const { return !sums_.empty(); }
  std::uint64_t checksum_bytes() const { return own_sums_.size() * sizeof(std::uint32_t); }

  /// Keeps the sums of whole blocks that are about to be written. Any thread.
  void note(std::uint64_t offset, std::span<const std::byte> blocks);
  /// The offset of the first of these blocks whose sum does not match; none: all do.
  std::optional<std::uint64_t> first_wrong_block(std::uint64_t offset,
                                                 std::span<const std::byte> blocks) const;
  /// Lets the page cache forget whole pages of this range, where it was read through it.
  void forget(std::uint64_t offset, std::size_t bytes) const;

 private:
  DiskFile(std::filesystem::path path, int descriptor);
  void choose_path(const DiskOptions& options);

  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t bytes_ = 0;
  bool created_ = false;
  bool direct_ = false;
  bool small_ = false;
  std::string reason_;
  std::vector<std::uint32_t> own_sums_;
  std::span<const std::uint32_t> sums_;
};

/// "No space left on device (ENOSPC)".
std::string errno_text(int error);
bool out_of_space(int error);
/// Bytes an unprivileged user may still write in `folder`; 0 when that cannot be found out.
std::uint64_t free_disk_bytes(const std::filesystem::path& folder);

}  // namespace sluice::offload
