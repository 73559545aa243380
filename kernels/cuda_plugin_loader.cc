// Loads one plugin and asks it for an engine. Compiled in every build; only cuda_plugin.cc, of
// builds with SLUICE_CUDA, gives it a path.
#include <array>
#include <exception>

#include "kernels/cuda_plugin.h"
#include "kernels/plugin.h"

namespace sluice::kernels {

namespace {

constexpr std::size_t kReasonBytes = 1024;
constexpr PluginContract kContract = {kPluginFile, "sluice_engine_abi", kEngineAbi, "engine"};

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

bool has_cuda_driver() { return can_load("libcuda.so.1"); }

Engine load_engine_plugin(const std::string& path, const EngineOptions& options) {
  Engine engine;
  std::string why;
  try {
    Plugin plugin(path, kContract);
    const auto make = plugin.function<decltype(&sluice_make_engine)>("sluice_make_engine");
    plugin.keep();
    if (ask(make, options, engine, why)) return engine;
  } catch (const PluginProblem& problem) {
    why = problem.what();
  }
  throw CudaUnavailable(why);
}

}  // namespace sluice::kernels
