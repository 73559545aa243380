// A library for LD_PRELOAD: one read or write of a job's files fails with EIO, as on a disk that
// dies. scripts/chaos sets, in the environment of the job:
//
//   SLUICE_CHAOS_UNDER   folders, with ':' between them, whose files count
//   SLUICE_CHAOS_RANK    the rank that is struck (0 for a job without MPI)
//   SLUICE_CHAOS_CALL    the number of the call that fails, from 1; all later ones go through
//   SLUICE_CHAOS_TOLD    a file that is made when it has failed
//
// io_uring is refused, since its reads and writes are no calls of a library.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

std::string_view setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

bool is_struck_rank() {
  const std::string_view rank = setting("OMPI_COMM_WORLD_RANK");
  return setting("SLUICE_CHAOS_RANK") == (rank.empty() ? "0" : rank);
}

bool is_ours(int descriptor) {
  std::array<char, 4096> path = {};
  std::array<char, 64> link = {};
  std::snprintf(link.data(), link.size(), "/proc/self/fd/%d", descriptor);
  if (::readlink(link.data(), path.data(), path.size() - 1) <= 0) return false;
  std::string_view folders = setting("SLUICE_CHAOS_UNDER");
  while (!folders.empty()) {
    const std::string_view folder = folders.substr(0, folders.find(':'));
    if (std::string_view(path.data()).starts_with(folder)) return true;
    folders.remove_prefix(std::min(folders.size(), folder.size() + 1));
  }
  return false;
}

bool fails(int descriptor) {
  static std::atomic<long> calls{0};
  static const bool struck = is_struck_rank();
  static const long wanted = std::atol(setting("SLUICE_CHAOS_CALL").data());
  if (!struck || wanted == 0 || !is_ours(descriptor) || ++calls != wanted) return false;
  const std::string told(setting("SLUICE_CHAOS_TOLD"));
  ::close(::open(told.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  errno = EIO;
  return true;
}

/// The C library's own function of this name.
template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t read(int file, void* data, size_t bytes) {
  static auto* const real = next<decltype(read)>("read");
  return fails(file) ? -1 : real(file, data, bytes);
}
ssize_t write(int file, const void* data, size_t bytes) {
  static auto* const real = next<decltype(write)>("write");
  return fails(file) ? -1 : real(file, data, bytes);
}
ssize_t writev(int file, const iovec* parts, int count) {
  static auto* const real = next<decltype(writev)>("writev");
  return fails(file) ? -1 : real(file, parts, count);
}
ssize_t pread(int file, void* data, size_t bytes, off_t offset) {
  static auto* const real = next<decltype(pread)>("pread");
  return fails(file) ? -1 : real(file, data, bytes, offset);
}
ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  static auto* const real = next<decltype(pwrite)>("pwrite");
  return fails(file) ? -1 : real(file, data, bytes, offset);
}
ssize_t pread64(int file, void* data, size_t bytes, off64_t offset) {
  static auto* const real = next<decltype(pread64)>("pread64");
  return fails(file) ? -1 : real(file, data, bytes, offset);
}
ssize_t pwrite64(int file, const void* data, size_t bytes, off64_t offset) {
  static auto* const real = next<decltype(pwrite64)>("pwrite64");
  return fails(file) ? -1 : real(file, data, bytes, offset);
}
int fsync(int file) {
  static auto* const real = next<decltype(fsync)>("fsync");
  return fails(file) ? -1 : real(file);
}
int io_uring_queue_init_params(unsigned, void*, void*) { return -EPERM; }
int io_uring_queue_init(unsigned, void*, unsigned) { return -EPERM; }

}  // extern "C"
