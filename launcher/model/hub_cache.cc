// Source: huggingface_hub's constants.py (HF_HUB_CACHE) and file_download.py (the folders' layout).
// Its variables are read as it reads them: an empty one counts, and ~ and $NAME are expanded.
#include "launcher/model/hub_cache.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <initializer_list>
#include <optional>

#include "kernels/device/error.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

namespace {

namespace fs = std::filesystem;

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && std::ranges::all_of(name, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
  });
}

/// Unset is absent; empty is a value.
std::optional<std::string> from_environment(const std::string& variable) {
  const char* value = std::getenv(variable.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

std::optional<std::string> home_of(const std::string& user) {
  const passwd* entry = user.empty() ? ::getpwuid(::getuid()) : ::getpwnam(user.c_str());
  return entry == nullptr ? std::nullopt : std::optional<std::string>(entry->pw_dir);
}

/// "~/x" and "~user/x" (Python's os.path.expanduser).
std::string with_home(const std::string& path) {
  if (!path.starts_with('~')) return path;
  const std::size_t slash = std::min(path.find('/'), path.size());
  const std::string user = path.substr(1, slash - 1);
  std::optional<std::string> home = user.empty() ? from_environment("HOME") : std::nullopt;
  if (!home) home = home_of(user);
  if (!home) return path;
  home->erase(home->find_last_not_of('/') + 1);
  const std::string expanded = *home + path.substr(slash);
  return expanded.empty() ? "/" : expanded;
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// "$NAME" and "${NAME}"; what is not set stays as it is (Python's os.path.expandvars).
std::string with_variables(const std::string& path) {
  std::string expanded;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t dollar = std::min(path.find('$', at), path.size());
    expanded.append(path, at, dollar - at);
    at = dollar;
    if (at == path.size()) break;
    std::size_t begin = at + 1;
    std::size_t end = begin;
    std::size_t next = begin;
    if (begin < path.size() && path[begin] == '{') {
      end = path.find('}', ++begin);
      next = end == std::string::npos ? at + 1 : end + 1;
    } else {
      while (end < path.size() && is_word(path[end])) ++end;
      next = std::max(end, at + 1);
    }
    std::optional<std::string> value;
    if (end != std::string::npos && end > begin) {
      value = from_environment(path.substr(begin, end - begin));
    }
    expanded += value.value_or(path.substr(at, next - at));
    at = next;
  }
  return expanded;
}

std::string expanded(const std::string& path) { return with_variables(with_home(path)); }

fs::path cache_folder() {
  const fs::path cache =
      from_environment("XDG_CACHE_HOME").value_or((fs::path(with_home("~")) / ".cache").string());
  const fs::path home =
      expanded(from_environment("HF_HOME").value_or((cache / "huggingface").string()));
  const std::string hub =
      from_environment("HUGGINGFACE_HUB_CACHE").value_or((home / "hub").string());
  return expanded(from_environment("HF_HUB_CACHE").value_or(hub));
}

/// Of the cache.
fs::path folder_of(const std::string& hub_id) {
  std::string name = hub_id;
  name.replace(name.find('/'), 1, "--");
  return cache_folder() / ("models--" + name);
}

std::string command_for(const std::string& hub_id) { return "hf download " + hub_id; }

}  // namespace

bool is_hub_id(const std::string& model) {
  const std::size_t slash = model.find('/');
  return slash != std::string::npos && is_plain_name(model.substr(0, slash)) &&
         is_plain_name(model.substr(slash + 1));
}

bool is_in_hub_cache(const std::string& hub_id) {
  std::error_code error;
  return fs::is_regular_file(folder_of(hub_id) / "refs" / "main", error);
}

fs::path find_in_hub_cache(const std::string& hub_id) {
  const fs::path folder = folder_of(hub_id);
  const auto refuse = [&](const std::string& what) {
    throw InputError(
        fmt::format("{}: {}; download it with: {}", hub_id, what, command_for(hub_id)));
  };
  std::error_code error;
  if (!is_in_hub_cache(hub_id)) {
    refuse(fmt::format("neither a folder here nor a model in the Hugging Face cache {}",
                       cache_folder().string()));
  }
  std::string revision = offload::read_text_file(folder / "refs" / "main", 256);
  while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back())) != 0) {
    revision.pop_back();
  }
  const fs::path snapshot = folder / "snapshots" / revision;
  if (!is_plain_name(revision) || !fs::is_directory(snapshot, error)) {
    refuse(fmt::format("{} names the snapshot \"{}\", which is not there",
                       (folder / "refs" / "main").string(), offload::printable(revision)));
  }
  return snapshot;
}

std::string download_hint(const fs::path& folder) {
  const std::string prefix = "models--";
  std::string name = folder.parent_path().parent_path().filename().string();
  const std::size_t dashes = name.find("--", prefix.size());
  if (folder.parent_path().filename() != "snapshots" || !name.starts_with(prefix) ||
      dashes == std::string::npos) {
    return {};
  }
  name = name.substr(prefix.size(), dashes - prefix.size()) + "/" + name.substr(dashes + 2);
  return fmt::format("; its download is not complete, finish it with: {}", command_for(name));
}

std::string weights_hint(const fs::path& folder) {
  const auto has_file_ending = [](const fs::path& where, std::initializer_list<const char*> ends) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(where, error)) {
      const std::string name = entry.path().filename().string();
      const bool there = fs::exists(entry.path(), error);
      if (there && std::ranges::any_of(ends, [&](auto* end) { return name.ends_with(end); })) {
        return true;
      }
    }
    return false;
  };
  const bool whole =
      has_file_ending(folder, {".safetensors", ".bin"}) &&
      !has_file_ending(folder.parent_path().parent_path() / "blobs", {".incomplete"});
  return whole ? std::string() : download_hint(folder);
}

}  // namespace sluice::launcher
