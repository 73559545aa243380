// Loads one plugin and asks it for an engine. Compiled in every build; only cuda_plugin.cc, of
// builds with SLUICE_CUDA, gives it a path.
#include <dlfcn.h>
#include <fmt/core.h>

#include <array>
#include <exception>
#include <memory>
#include <utility>

#include "kernels/cuda_plugin.h"

namespace sluice::kernels {

namespace {

struct Close {
  void operator()(void* library) const { dlclose(library); }
};
using Library = std::unique_ptr<void, Close>;

constexpr std::size_t kReasonBytes = 1024;

Library open(const std::string& path) {
  // NOW: a missing symbol is found here, not in the middle of a run. LOCAL: the plugin's copy of
  // kernels/, and what CUDA brings along, stay out of everybody else's sight.
  Library library(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (library == nullptr) {
    // The loader names the file it could not open: the plugin, or a library the plugin needs.
    const char* error = dlerror();
    std::string reason = error != nullptr ? error : "the loader gives no reason";
    if (reason.rfind(path, 0) != 0) reason = fmt::format("{}: {}", path, reason);
    if (path == kPluginFile) {
      reason += " (looked for beside the program, in ../lib/sluice from there, and by the loader)";
    }
    throw CudaUnavailable(reason);
  }
  return library;
}

template <class Function>
Function function_of(const Library& library, const std::string& path, const char* name) {
  void* address = dlsym(library.get(), name);
  if (address == nullptr) {
    throw CudaUnavailable(
        fmt::format("{} has no function {}, so it is not a plugin of sluice", path, name));
  }
  return reinterpret_cast<Function>(address);
}

/// Whether `make` made an engine; if not, why.
bool ask(decltype(&sluice_make_engine) make, const EngineOptions& options, Engine& engine,
         std::string& why) {
  std::array<char, kReasonBytes> reason{};
  try {
    if (make(&options, &engine, reason.data(), reason.size())) {
      if (engine.backend && engine.device_ops && engine.host_ops) return true;
      why = "the plugin made half an engine and said it was whole";
      return false;
    }
    reason.back() = '\0';  // a plugin that cuts its text with strncpy() may leave none
    why = reason.data();
  } catch (const std::exception& error) {
    why = error.what();
  } catch (...) {
    why = "the plugin threw something that is not an exception";
  }
  if (why.empty()) why = "the plugin gives no reason";
  return false;
}

}  // namespace

bool has_cuda_driver() {
  return Library(dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL)) != nullptr;
}

Engine load_engine_plugin(const std::string& path, const EngineOptions& options) {
  Library library = open(path);
  const auto abi = function_of<decltype(&sluice_engine_abi)>(library, path, "sluice_engine_abi");
  if (const int number = abi(); number != kEngineAbi) {
    throw CudaUnavailable(
        fmt::format("{} is of engine ABI {}, this program of {}, so they are of different "
                    "builds",
                    path, number, kEngineAbi));
  }
  const auto make = function_of<decltype(&sluice_make_engine)>(library, path, "sluice_make_engine");
  // From here on the library stays, whatever happens: threads, exit handlers and memory of CUDA, an
  // exception on its way, or an engine would be left without their code.
  [[maybe_unused]] void* const kept = library.release();
  Engine engine;
  std::string why;
  if (!ask(make, options, engine, why)) throw CudaUnavailable(why);
  return engine;
}

}  // namespace sluice::kernels
