#include "kernels/plugin.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <filesystem>
#include <system_error>

namespace sluice::kernels {

namespace {

/// Whether the loader should try `file`. A file that cannot be examined is tried, too: the loader
/// then says why it fails.
bool may_exist(const std::filesystem::path& file) {
  std::error_code error;
  return std::filesystem::status(file, error).type() != std::filesystem::file_type::not_found;
}

void* open(const std::string& path, const char* file) {
  // RTLD_NOW finds a missing symbol here, not in the middle of a run. RTLD_LOCAL hides the plugin's
  // copy of kernels/ and its libraries from the program.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) return library;
  // The loader names the file it could not open: the plugin, or a library the plugin needs.
  const char* error = dlerror();
  std::string reason = error != nullptr ? error : "the loader gives no reason";
  if (reason.rfind(path, 0) != 0) reason = fmt::format("{}: {}", path, reason);
  if (path == file) {
    reason += " (looked for beside the program, in ../lib/sluice from there, and by the loader)";
  }
  throw PluginProblem(reason);
}

}  // namespace

std::string find_plugin(const char* file) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) {
    throw PluginProblem(
        fmt::format("the folder of the program is not known, because /proc/self/exe cannot "
                    "be read ({})",
                    error.message()));
  }
  // The first file that exists is the plugin, even if it cannot be loaded. Another plugin further
  // on would be of another build, and would only hide the problem.
  const std::filesystem::path folder = program.parent_path();
  for (const auto& place : {folder / file, folder / "../lib/sluice" / file}) {
    if (may_exist(place)) return place.string();
  }
  return file;
}

bool can_load(const char* library) {
  void* const found = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
  if (found != nullptr) dlclose(found);
  return found != nullptr;
}

Plugin::Plugin(const std::string& path, const PluginContract& contract)
    : path_(path), library_(open(path, contract.file)) {
  try {
    if (const int number = function<int (*)()>(contract.abi_function)(); number != contract.abi) {
      throw PluginProblem(
          fmt::format("{} is of {} ABI {}, this program of {}, so they are of different builds",
                      path, contract.abi_name, number, contract.abi));
    }
  } catch (...) {
    dlclose(library_);
    throw;
  }
}

Plugin::~Plugin() {
  if (!kept_) dlclose(library_);
}

void* Plugin::address(const char* name) const {
  void* const found = dlsym(library_, name);
  if (found == nullptr) {
    throw PluginProblem(
        fmt::format("{} has no function {}, so it is not a plugin of sluice", path_, name));
  }
  return found;
}

}  // namespace sluice::kernels
