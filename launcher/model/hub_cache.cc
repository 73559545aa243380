// Source: huggingface_hub's constants.py (HF_HUB_CACHE) and file_download.py (the folders' layout).
#include "launcher/model/hub_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

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

// Empty variables count as unset, as the hub's own tools take them.
fs::path from_environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? fs::path() : fs::path(value);
}

fs::path cache_folder() {
  if (const fs::path hub = from_environment("HF_HUB_CACHE"); !hub.empty()) return hub;
  if (const fs::path home = from_environment("HF_HOME"); !home.empty()) return home / "hub";
  fs::path cache = from_environment("XDG_CACHE_HOME");
  if (cache.empty()) cache = from_environment("HOME") / ".cache";
  return cache / "huggingface" / "hub";
}

}  // namespace

bool is_hub_id(const std::string& model) {
  const std::size_t slash = model.find('/');
  return slash != std::string::npos && is_plain_name(model.substr(0, slash)) &&
         is_plain_name(model.substr(slash + 1));
}

fs::path find_in_hub_cache(const std::string& hub_id) {
  std::string name = hub_id;
  name.replace(name.find('/'), 1, "--");
  const fs::path cache = cache_folder();
  const fs::path folder = cache / ("models--" + name);
  const auto refuse = [&](const std::string& what) {
    throw InputError(
        fmt::format("{}: {}; download it with: huggingface-cli download {}", hub_id, what, hub_id));
  };
  std::error_code error;
  if (!fs::is_regular_file(folder / "refs" / "main", error)) {
    refuse(fmt::format("neither a folder here nor a model in the Hugging Face cache {}",
                       cache.string()));
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

}  // namespace sluice::launcher
