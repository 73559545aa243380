// Folders of runs and the removal of those whose run is dead.
//
// A run is alive while it holds the lock of the file "lock" in its folder. To be never seen without
// its lock, a folder is made under another name (with a leading dot), locked, and renamed. The
// kernel gives the lock back when the process ends, however it ends.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <climits>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "kernels/device/error.h"
#include "offload/disk/disk_requests.h"

namespace sluice::offload {

namespace {

constexpr const char* kPrefix = "sluice-";
constexpr const char* kLockName = "lock";

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }
  bool open() const { return value_ >= 0; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  if (::gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "host";
  std::string host = name;
  const auto is_odd = [](unsigned char c) { return std::isalnum(c) == 0 && c != '.' && c != '-'; };
  std::replace_if(host.begin(), host.end(), is_odd, '_');
  return host;
}

struct RunName {
  std::string host;
  pid_t pid = 0;
};

// "sluice-<host>-<pid>-<rank>"; the host may have dashes of its own.
std::optional<RunName> parse(const std::string& name) {
  const std::size_t rank_dash = name.rfind('-');
  if (name.rfind(kPrefix, 0) != 0 || rank_dash == std::string::npos) return std::nullopt;
  const std::size_t pid_dash = name.rfind('-', rank_dash - 1);
  const std::size_t host_begin = std::string(kPrefix).size();
  if (pid_dash == std::string::npos || pid_dash <= host_begin) return std::nullopt;
  const auto number = [&name](std::size_t begin, std::size_t end) -> std::optional<int> {
    int value = 0;
    const auto [stop, error] = std::from_chars(name.data() + begin, name.data() + end, value);
    if (error != std::errc() || stop != name.data() + end || value < 0) return std::nullopt;
    return value;
  };
  const auto pid = number(pid_dash + 1, rank_dash);
  if (!pid || !number(rank_dash + 1, name.size())) return std::nullopt;
  return RunName{name.substr(host_begin, pid_dash - host_begin), *pid};
}

int open_folder_at(int parent, const char* name) {
  return ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

std::vector<std::string> names_in(int folder) {
  std::vector<std::string> names;
  const int copy = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return names;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy), &::closedir);
  if (stream == nullptr) {
    ::close(copy);
    return names;
  }
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  return names;
}

// Takes away the plain files of `folder`, its lock last, and then the folder itself, by names
// within open folders: nothing outside can be reached through a link. What cannot be removed stays.
void remove_folder(int parent, const std::string& name, int folder) {
  for (const std::string& file : names_in(folder)) {
    if (file != kLockName) ::unlinkat(folder, file.c_str(), 0);
  }
  ::unlinkat(folder, kLockName, 0);
  ::unlinkat(parent, name.c_str(), AT_REMOVEDIR);
}

bool owned_by_us(int folder) {
  struct stat status;
  return ::fstat(folder, &status) == 0 && status.st_uid == ::geteuid();
}

// True, with the lock held in `lock`, when nobody else holds it.
bool take_lock(int lock) {
  int result = 0;
  do {
    result = ::flock(lock, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

// `own`: the name this run is about to take; what stands under it was left by an earlier process.
void remove_if_dead(int parent, const std::string& name, const std::string& own) {
  const bool unfinished = name[0] == '.';
  const std::optional<RunName> run = parse(unfinished ? name.substr(1) : name);
  if (!run) return;
  const Descriptor folder(open_folder_at(parent, name.c_str()));
  if (!folder.open() || !owned_by_us(folder.get())) return;
  if (unfinished) {
    // Not locked yet while its run is being born: only a dead process of this host leaves it
    // behind.
    const bool dead = run->host == host_name() && ::kill(run->pid, 0) != 0 && errno == ESRCH;
    if (dead || name.substr(1) == own) remove_folder(parent, name, folder.get());
    return;
  }
  const Descriptor lock(
      ::openat(folder.get(), kLockName, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (lock.open() && take_lock(lock.get())) remove_folder(parent, name, folder.get());
}

[[noreturn]] void fail(const std::filesystem::path& path, const char* what, int error) {
  throw IoError(fmt::format("cannot {} run folder {}: {}; choose another folder for offloaded data",
                            what, path.string(), errno_text(error)));
}

int make_locked_folder(int parent, const std::string& name, const std::filesystem::path& path) {
  const std::string unfinished = "." + name;
  if (::mkdirat(parent, unfinished.c_str(), S_IRWXU) != 0) fail(path, "make", errno);
  const Descriptor folder(open_folder_at(parent, unfinished.c_str()));
  if (!folder.open()) fail(path, "open", errno);
  Descriptor lock(::openat(folder.get(), kLockName,
                           O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!lock.open() || !take_lock(lock.get()) ||
      ::renameat(parent, unfinished.c_str(), parent, name.c_str()) != 0) {
    const int error = errno;
    remove_folder(parent, unfinished, folder.get());
    fail(path, "lock", error);
  }
  return lock.release();
}

}  // namespace

RunFolder::RunFolder(const std::filesystem::path& parent, int rank) {
  const std::string name = fmt::format("{}{}-{}-{}", kPrefix, host_name(), ::getpid(), rank);
  path_ = parent / name;
  if (::mkdir(parent.c_str(), S_IRWXU) != 0 && errno != EEXIST) fail(path_, "make", errno);
  const Descriptor folder(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.open()) fail(path_, "make", errno);
  for (const std::string& entry : names_in(folder.get())) {
    // A name may be gone by the time it is looked at; what another run is removing is left to it.
    remove_if_dead(folder.get(), entry, name);
  }
  lock_ = make_locked_folder(folder.get(), name, path_);
}

RunFolder::~RunFolder() {
  remove();
  ::close(lock_);
}

void RunFolder::remove() const noexcept try {
  const Descriptor parent(::open(path_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.open()) return;
  const std::string name = path_.filename();
  const Descriptor folder(open_folder_at(parent.get(), name.c_str()));
  if (!folder.open()) return;
  // Under another name first: a file made meanwhile would keep the folder, without its lock, for
  // ever. What stays under that name is removed by the next run.
  const std::string leaving = "." + name;
  const bool renamed = ::renameat(parent.get(), name.c_str(), parent.get(), leaving.c_str()) == 0;
  remove_folder(parent.get(), renamed ? leaving : name, folder.get());
} catch (const std::exception&) {  // out of memory: the next run removes it
}

}  // namespace sluice::offload
