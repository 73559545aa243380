#include "launcher/machine/control_groups.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

namespace sluice::launcher {

namespace {

namespace fs = std::filesystem;

/// A group of this process, in one hierarchy.
struct Group {
  std::string name;
  fs::path folder;
};

/// A mounted hierarchy, or a part of one.
struct Mount {
  std::string root;  // the group that `folder` shows
  fs::path folder;
};

/// Paths in /proc/self/mountinfo have blanks as "\040".
std::string unescaped(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_code = text[i] == '\\' && i + 3 < text.size();
    plain += is_code ? static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8)) : text[i];
    if (is_code) i += 3;
  }
  return plain;
}

bool has_word(const std::string& list, std::string_view word) {
  std::istringstream words(list);
  for (std::string one; std::getline(words, one, ',');) {
    if (one == word) return true;
  }
  return false;
}

/// Mounts of version 2 (`controller` empty), or of the hierarchy of version 1 with a controller.
std::vector<Mount> mounts_of(const fs::path& root, std::string_view controller) {
  std::vector<Mount> mounts;
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    // "35 31 0:32 /job /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory" (proc(5))
    const std::size_t middle = line.find(" - ");
    if (middle == std::string::npos) continue;
    std::string skipped, shown, folder, type, source, options;
    std::istringstream(line) >> skipped >> skipped >> skipped >> shown >> folder;
    std::istringstream(line.substr(middle + 3)) >> type >> source >> options;
    const bool is_wanted =
        controller.empty() ? type == "cgroup2" : type == "cgroup" && has_word(options, controller);
    if (!is_wanted) continue;
    mounts.push_back({unescaped(shown), root / fs::path(unescaped(folder)).relative_path()});
  }
  return mounts;
}

/// The way below `shown` to the group `path`; nothing where it is not below it, or is hidden by the
/// process's own view of the hierarchy ("/../job").
std::optional<std::string> way_below(const std::string& shown, const std::string& path) {
  if (path.find("/..") != std::string::npos) return std::nullopt;
  if (shown == "/") return path;
  if (path.rfind(shown, 0) != 0) return std::nullopt;
  const std::string rest = path.substr(shown.size());
  if (!rest.empty() && rest.front() != '/') return std::nullopt;
  return rest;
}

/// The groups from `path` up to the one that `mount` shows. A container may see its own group as
/// the root and be told another path: that root counts then.
void add_groups(const Mount& mount, const std::string& path, std::vector<Group>& groups) {
  fs::path way = fs::path(way_below(mount.root, path).value_or("")).relative_path();
  for (;; way = way.parent_path()) {
    const std::string name = (fs::path(mount.root) / way).string();
    groups.push_back({name, way.empty() ? mount.folder : mount.folder / way});
    if (way.empty()) return;
  }
}

/// Every group that limits this process by `controller`, nearest first in each hierarchy.
std::vector<Group> groups_of(const fs::path& root, std::string_view controller) {
  std::vector<Group> groups;
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    // "4:cpu,cpuacct:/slurm/uid_0"; of version 2 "0::/user.slice"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !has_word(controllers, controller)) continue;
    const std::string path = line.substr(second + 1);
    for (const Mount& mount : mounts_of(root, controllers.empty() ? "" : controller)) {
      add_groups(mount, path, groups);
    }
  }
  return groups;
}

/// The first number of a file; nothing where there is none: "max".
std::optional<double> number_in(const fs::path& path) {
  std::ifstream file(path);
  double number = 0;
  if (!(file >> number)) return std::nullopt;
  return number;
}

/// A value of memory.stat, in bytes; 0: not there.
double stat_of(const fs::path& folder, std::string_view key) {
  std::ifstream file(folder / "memory.stat");
  std::string name;
  for (double bytes = 0; file >> name >> bytes;) {
    if (name == key) return bytes;
  }
  return 0;
}

/// What `limit` leaves beside what the group uses. Files are not read at one moment: the page cache
/// may seem larger than all that is used.
double room(double limit, double usage, double cache) {
  return std::max(0.0, limit - std::max(0.0, usage - cache));
}

/// Version 2. Beyond memory.high the kernel slows a group down until it stands still: it is a limit
/// for what a job keeps.
std::optional<double> memory_of_version_2(const fs::path& folder) {
  const auto usage = number_in(folder / "memory.current");
  std::optional<double> limit = number_in(folder / "memory.max");
  if (const auto high = number_in(folder / "memory.high"))
    limit = std::min(*high, limit.value_or(*high));
  if (!usage || !limit) return std::nullopt;
  return room(*limit, *usage, stat_of(folder, "inactive_file") + stat_of(folder, "active_file"));
}

/// Version 1. Its files count the group's children, too, but for the plain keys of memory.stat;
/// hierarchical_memory_limit is the least limit up to the true root, which a container cannot see.
std::optional<double> memory_of_version_1(const fs::path& folder) {
  const auto usage = number_in(folder / "memory.usage_in_bytes");
  const auto own_limit = number_in(folder / "memory.limit_in_bytes");
  if (!usage || !own_limit) return std::nullopt;
  const double above = stat_of(folder, "hierarchical_memory_limit");
  const double limit = above > 0 ? std::min(above, *own_limit) : *own_limit;
  constexpr double kUnlimited = 0x1p62;  // the kernel writes the largest number of whole pages
  if (limit >= kUnlimited) return std::nullopt;
  return room(limit, *usage,
              stat_of(folder, "total_inactive_file") + stat_of(folder, "total_active_file"));
}

/// "200000 100000" of version 2, two files of version 1: microseconds in each period.
std::optional<double> processors(const fs::path& folder) {
  std::ifstream file(folder / "cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period)) {
    quota = number_in(folder / "cpu.cfs_quota_us").value_or(-1);  // -1: no limit
    period = number_in(folder / "cpu.cfs_period_us").value_or(0);
  }
  if (quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

/// Alike for every process that sees the group, whatever path it sees it by.
std::uint64_t id_of(const fs::path& folder) {
  struct stat status = {};
  if (stat(folder.c_str(), &status) != 0) return 0;
  return (std::uint64_t{status.st_dev} << 44U) ^ std::uint64_t{status.st_ino};
}

template <class Limit>
std::vector<GroupLimit> limits(const fs::path& root, std::string_view controller,
                               const Limit& limit_of) {
  std::vector<GroupLimit> limits;
  for (const Group& group : groups_of(root, controller)) {
    const std::optional<double> amount = limit_of(group.folder);
    if (amount) limits.push_back({group.name, id_of(group.folder), *amount});
  }
  return limits;
}

}  // namespace

std::vector<GroupLimit> memory_limits(const fs::path& root) {
  return limits(root, "memory", [](const fs::path& folder) {
    const auto newer = memory_of_version_2(folder);
    return newer ? newer : memory_of_version_1(folder);
  });
}

std::vector<GroupLimit> processor_limits(const fs::path& root) {
  return limits(root, "cpu", processors);
}

}  // namespace sluice::launcher
