#include "launcher/planner/machine_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "kernels/device/error.h"
#include "launcher/config/config_reader.h"
#include "launcher/config/config_yaml.h"
#include "launcher/planner/machine_reader.h"
#include "launcher/report/report_file.h"

namespace sluice::launcher {

namespace {

/// As part of a file's name.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.') {
      out += c;
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.substr(0, 100);
}

}  // namespace

Machine read_machine_text(const std::string& text, const std::string& name, MachineParts parts) {
  ConfigProblems problems;
  const ConfigNode root = read_yaml(text, name, problems);
  if (root.kind != ConfigNode::Kind::map) {
    throw ConfigError(fmt::format(
        "{}:1:1: is no machine file: it must be a map of keys; sluice calibrate writes one", name));
  }
  Machine machine;
  MachineReader reader(root, name, parts, problems);
  reader.head();
  describe_machine(reader, machine);
  reader.finish();
  refuse_problems(std::move(problems));
  return machine;
}

Machine read_machine_file(const std::filesystem::path& file, MachineParts parts) {
  return read_machine_text(read_yaml_file(file, "--machine"), file.string(), parts);
}

void write_machine_file(const std::filesystem::path& file, const Machine& machine,
                        MachineParts parts) {
  std::error_code error;  // writing says what is wrong
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), error);
  write_report_file(file, to_yaml(machine, parts));
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

std::filesystem::path machine_cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "sluice";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return std::filesystem::path(home) / ".cache" / "sluice";
}

std::filesystem::path machine_file_path(const std::string& host, const std::string& processor) {
  const std::filesystem::path folder = machine_cache_folder();
  if (folder.empty()) return folder;
  return folder / fmt::format("machine-{}-{}.yaml", plain(host), plain(processor));
}

std::string date_of(std::int64_t seconds) {
  const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
  const std::chrono::year_month_day day{std::chrono::floor<std::chrono::days>(time)};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(day.year()),
                     static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()));
}

std::optional<Machine> find_machine(const std::filesystem::path& file) {
  if (!file.empty()) return read_machine_file(file);
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return std::nullopt;
  const std::filesystem::path kept = machine_file_path(host.data(), processor_name());
  std::error_code error;
  if (kept.empty() || !std::filesystem::exists(kept, error)) return std::nullopt;
  return read_machine_file(kept);
}

}  // namespace sluice::launcher
