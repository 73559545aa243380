#include "launcher/report/machine_file.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "kernels/device/error.h"
#include "launcher/json/json.h"
#include "launcher/report/report_file.h"

namespace sluice::launcher {

namespace {

constexpr int kFormatVersion = 1;

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

Json read(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  Json json = Json::parse_or_null(text.str());
  const bool known =
      json.member("format") == "sluice-machine" && json.member("format_version") == kFormatVersion;
  if (!known) json = {{"format", "sluice-machine"}, {"format_version", kFormatVersion}};
  return json;
}

std::string engine_key(const std::string& device, int threads) {
  return fmt::format("{}, {} threads", device, threads);
}

/// The file system's device, "254:0": what lies on one disk shares its figure. Empty: no such path.
std::string disk_key(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return "";
  return fmt::format("{}:{}", major(status.st_dev), minor(status.st_dev));
}

/// The entry `part`.`key`, where it is young enough.
const Json* entry(const Json& json, const char* part, const std::string& key, std::int64_t oldest) {
  const Json* found = json.member(part).find(key);
  const bool young = found != nullptr && found->member("date").is_integer_in(oldest, INT64_MAX);
  return young ? found : nullptr;
}

double number(const Json& json, const char* key) {
  const Json& value = json.member(key);
  return value.is_number() ? std::max(value.number(), 0.0) : 0.0;
}

void replace(const std::filesystem::path& path, const char* part, const std::string& key,
             const Json& value) {
  if (path.empty()) return;  // there is no place to keep it
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);  // writing says what is wrong
  Json json = read(path);
  json[part][key] = value;
  write_report_file(path, json.dump(2) + "\n");
}

}  // namespace

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

std::filesystem::path machine_file_path(const std::string& host, const std::string& processor) {
  const std::string name = fmt::format("machine-{}-{}.json", plain(host), plain(processor));
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "sluice" / name;
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return std::filesystem::path(home) / ".cache" / "sluice" / name;
}

std::optional<stage::MachineRates> MachineFile::engine(const std::string& device, int threads,
                                                       std::int64_t oldest) const {
  const Json json = read(path_);
  const Json* found = entry(json, "engines", engine_key(device, threads), oldest);
  if (found == nullptr) return std::nullopt;
  stage::MachineRates rates;
  rates.memory_read = number(*found, "memory_read");
  rates.flop = number(*found, "flop");
  rates.host_to_device = number(*found, "host_to_device");
  rates.device_to_host = number(*found, "device_to_host");
  return rates;
}

std::optional<double> MachineFile::disk(const std::filesystem::path& path,
                                        std::int64_t oldest) const {
  const Json json = read(path_);
  const Json* found = entry(json, "disks", disk_key(path), oldest);
  if (found == nullptr) return std::nullopt;
  return number(*found, "read");
}

void MachineFile::keep_engine(const std::string& device, int threads,
                              const stage::MachineRates& rates, std::int64_t now) const {
  replace(path_, "engines", engine_key(device, threads),
          {{"date", now},
           {"memory_read", rates.memory_read},
           {"flop", rates.flop},
           {"host_to_device", rates.host_to_device},
           {"device_to_host", rates.device_to_host}});
}

void MachineFile::keep_disk(const std::filesystem::path& path, double read,
                            std::int64_t now) const {
  replace(path_, "disks", disk_key(path), {{"date", now}, {"read", read}});
}

}  // namespace sluice::launcher
