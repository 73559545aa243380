#include "launcher/serve/file_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/report/report_file.h"
#include "launcher/serve/api_error.h"

namespace sluice::launcher {

namespace fs = std::filesystem;

namespace {

void make_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::is_directory(folder, error)) return;
  if (fs::create_directories(folder, error)) {
    fs::permissions(folder, fs::perms::owner_all, error);
  }
  if (error) {
    throw ConfigError(
        fmt::format("--files-dir {}: cannot be made: {}; name a folder that this "
                    "user may write to",
                    folder.string(), error.message()));
  }
}

/// Nothing: the file was not written to its end, or is another's.
std::optional<StoredFile> read_facts(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  try {
    const Json facts = Json::parse(text);
    StoredFile file;
    facts.at("id").get_to(file.id);
    facts.at("filename").get_to(file.filename);
    facts.at("purpose").get_to(file.purpose);
    facts.at("bytes").get_to(file.bytes);
    facts.at("created_at").get_to(file.created);
    fs::path bytes = path;
    bytes.replace_extension();
    if (file.id != bytes.filename() || !fs::is_regular_file(bytes)) return {};
    return file;
  } catch (const JsonError&) {
    return {};
  }
}

}  // namespace

Json file_json(const StoredFile& file) {
  return {{"id", file.id},
          {"object", "file"},
          {"bytes", file.bytes},
          {"created_at", file.created},
          {"filename", file.filename},
          {"purpose", file.purpose},
          {"status", "processed"}};
}

std::string random_id(const char* prefix) {
  std::random_device chance;
  return fmt::format("{}-{:08x}{:08x}{:08x}", prefix, chance(), chance(), chance());
}

std::int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

FileStore::FileStore(const fs::path& folder) : folder_(folder) {
  make_folder(folder_);
  make_folder(folder_ / "files");
  lock();
  for (const auto& entry : fs::directory_iterator(folder_ / "files")) {
    if (entry.path().extension() != ".json") continue;
    if (auto file = read_facts(entry.path())) files_.emplace(file->id, std::move(*file));
  }
}

FileStore::~FileStore() {
  if (lock_ >= 0) ::close(lock_);
}

void FileStore::lock() {
  const fs::path path = folder_ / "lock";
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) {
    throw ConfigError(fmt::format("--files-dir {}: cannot be written to: {}", folder_.string(),
                                  std::strerror(errno)));
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(std::exchange(lock_, -1));
  throw ConfigError(
      fmt::format("--files-dir {}: another server uses it; name another folder", folder_.string()));
}

/// Last: a file is there when its facts are.
void FileStore::keep(const StoredFile& file) {
  fs::path facts = path_of(file.id);
  facts += ".json";
  write_report_file(facts, file_json(file).dump() + '\n');
  const std::lock_guard lock(mutex_);
  files_[file.id] = file;
}

StoredFile FileStore::add(const std::string& filename, const std::string& purpose,
                          const std::string& bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (files_.size() >= kMostFiles) {
      throw ApiError{
          400, fmt::format("the server keeps {} files, and takes no more; delete some", kMostFiles),
          "file"};
    }
  }
  const StoredFile file{random_id("file"), filename, purpose, bytes.size(), unix_seconds()};
  write_report_file(path_of(file.id), bytes);
  keep(file);
  return file;
}

void FileStore::adopt(StoredFile file, const fs::path& path) {
  std::error_code error;
  file.created = unix_seconds();
  file.bytes = fs::file_size(path, error);
  if (!error) fs::rename(path, path_of(file.id), error);
  if (error) {
    throw IoError(fmt::format("{}: cannot become {}: {}", path.string(), path_of(file.id).string(),
                              error.message()));
  }
  keep(file);
}

std::optional<StoredFile> FileStore::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(id);
  return found == files_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<StoredFile> FileStore::list() const {
  std::vector<StoredFile> files;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, file] : files_) files.push_back(file);
  }
  std::ranges::stable_sort(files, std::ranges::greater(), &StoredFile::created);
  return files;
}

bool FileStore::remove(const std::string& id) {
  {
    const std::lock_guard lock(mutex_);
    if (files_.erase(id) == 0) return false;
  }
  std::error_code ignored;
  fs::path facts = path_of(id);
  facts += ".json";
  fs::remove(facts, ignored);
  fs::remove(path_of(id), ignored);
  return true;
}

}  // namespace sluice::launcher
