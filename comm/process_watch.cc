#include "comm/process_watch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string_view>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

struct ProcessStat {
  char state = '?';
  std::uint64_t start_ticks = 0;
};

// Called at every heartbeat, so it allocates nothing.
bool read_stat(int pid, ProcessStat& stat) {
  std::array<char, 32> path = {};
  fmt::format_to_n(path.data(), path.size() - 1, "/proc/{}/stat", pid);
  const int file = open(path.data(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  std::array<char, 1024> buffer;  // three times the longest line there is
  const ssize_t bytes = read(file, buffer.data(), buffer.size());
  close(file);
  if (bytes <= 0) return false;
  std::string_view line(buffer.data(), static_cast<std::size_t>(bytes));
  // The program's name stands in brackets, and may itself contain brackets and blanks.
  const std::size_t name_end = line.rfind(") ");
  if (name_end == std::string_view::npos || name_end + 2 >= line.size()) return false;
  line.remove_prefix(name_end + 2);
  stat.state = line.front();
  constexpr int kFieldsBetween = 19;  // state is field 3, the start time field 22
  for (int i = 0; i < kFieldsBetween; ++i) {
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) return false;
    line.remove_prefix(space + 1);
  }
  return std::from_chars(line.data(), line.data() + line.size(), stat.start_ticks).ec ==
         std::errc();
}

}  // namespace

ProcessId this_process() {
  ProcessStat stat;
  const int pid = getpid();
  if (!read_stat(pid, stat)) {
    throw IoError(fmt::format(
        "Cannot read /proc/{}/stat, by which the ranks of a host watch each other; mount /proc.",
        pid));
  }
  return {pid, stat.start_ticks};
}

bool is_alive(const ProcessId& process) {
  ProcessStat stat;
  if (!read_stat(process.pid, stat)) return false;
  return stat.start_ticks == process.start_ticks && stat.state != 'Z' && stat.state != 'X';
}

}  // namespace sluice::comm
