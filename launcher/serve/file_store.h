// The files of the clients, in a folder: FOLDER/files/ID has the bytes, ID.json what it is called.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/json/json.h"

namespace sluice::launcher {

struct StoredFile {
  std::string id;        // "file-..."
  std::string filename;  // as its client calls it; never a path of ours
  std::string purpose;   // "batch", "batch_output"
  std::uint64_t bytes = 0;
  std::int64_t created = 0;  // Unix seconds
};

/// OpenAI's {"id", "object": "file", "bytes", "created_at", "filename", "purpose", "status"}.
Json file_json(const StoredFile& file);

/// A name that nobody can guess: `prefix`, and 24 hexadecimal digits of chance.
std::string random_id(const char* prefix);

std::int64_t unix_seconds();

constexpr std::size_t kMostFiles = 10'000;

/// Any thread.
class FileStore {
 public:
  /// Makes the folder where there is none, and finds the files of earlier runs. The folder is
  /// locked against a second server. Throws ConfigError.
  explicit FileStore(const std::filesystem::path& folder);
  ~FileStore();
  FileStore(const FileStore&) = delete;
  FileStore& operator=(const FileStore&) = delete;

  const std::filesystem::path& folder() const { return folder_; }

  /// Throws ApiError where there are too many files; IoError, CapacityError.
  StoredFile add(const std::string& filename, const std::string& purpose, const std::string& bytes);
  /// The file at `path`, on the same disk, moves in. Throws IoError.
  void adopt(StoredFile file, const std::filesystem::path& path);
  std::optional<StoredFile> find(const std::string& id) const;
  /// The newest first.
  std::vector<StoredFile> list() const;
  /// Pre: the file is there.
  std::filesystem::path path_of(const std::string& id) const { return folder_ / "files" / id; }
  /// False: there is no such file.
  bool remove(const std::string& id);

 private:
  void lock();
  void keep(const StoredFile& file);

  const std::filesystem::path folder_;
  int lock_ = -1;
  mutable std::mutex mutex_;
  std::map<std::string, StoredFile> files_;
};

}  // namespace sluice::launcher
