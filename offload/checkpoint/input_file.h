// A file that somebody else wrote, read piece by piece with every offset checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sluice::offload {

class InputFile {
 public:
  /// Throws InputError if `path` cannot be opened, is no regular file, or is what Git LFS leaves in
  /// the place of a file that it has not fetched. Never blocks on a FIFO.
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& name() const { return name_; }
  std::uint64_t bytes() const { return bytes_; }  // when it was opened

  /// Exactly bytes [offset, offset + count). Throws InputError if they are not all in the file,
  /// before anything is allocated, or if the file has shrunk; IoError if the disk fails.
  std::string read(std::uint64_t offset, std::uint64_t count) const;

 private:
  bool is_pointer() const;

  std::string name_;
  int descriptor_ = -1;
  std::uint64_t bytes_ = 0;
};

/// The whole of a small text file. Throws InputError if it is longer than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

/// Text from a file made fit for a message: control characters become '?', long text is cut.
std::string printable(std::string_view text);

}  // namespace sluice::offload
