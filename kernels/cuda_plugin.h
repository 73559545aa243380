// What the program and libsluice_cuda.so agree on. The program is linked without CUDA and loads the
// plugin where a GPU is asked for, so that one binary serves machines with and without one.
//
// A plugin defines the two functions below. It links its own copy of what it uses of kernels/ and
// asks nothing of the executable: only the layouts of the headers it shares with it count, and
// kEngineAbi stands for them. (A program linked with cuBLAS dies in the loader, with status 127 and
// no word of ours, where the toolkit is not installed.)
#pragma once

#include <cstddef>
#include <string>

#include "kernels/device/error.h"
#include "kernels/engine.h"

namespace sluice::kernels {

/// Raise it with every change of a class in kernels/device/{backend,error,tensor_view,trace}.h, in
/// ops.h, of EngineOptions, or of the functions below.
constexpr int kEngineAbi = 7;

/// What the plugin is called, as a file and to the loader.
constexpr const char* kPluginFile = "libsluice_cuda.so";

extern "C" {

/// kEngineAbi as it was when the plugin was compiled. Asked first: nothing else of a plugin with
/// another number is called.
[[gnu::visibility("default")]] int sluice_engine_abi() noexcept;

/// Fills `*engine` (empty at entry, all three members afterwards) and returns true; or returns
/// false with the reason in `reason`, at most `reason_bytes` with the closing zero: a phrase
/// without a full stop, "no CUDA device is visible". options.device is "cuda", "cuda:N", or "auto",
/// which means the plugin's own choice of a device. options lives until the return, options.trace
/// as long as the engine. The caller owns the engine; its objects are destroyed through their
/// virtual destructors, Memory by its deleter, all of it code of the plugin, which is therefore
/// never unloaded once this was called. May throw, anything: what() is the reason then. Called on
/// the thread that makes the engine.
[[gnu::visibility("default")]] bool sluice_make_engine(const EngineOptions* options, Engine* engine,
                                                       char* reason, std::size_t reason_bytes);

}  // extern "C"

/// "CUDA backend unavailable: <reason>; use device: cpu, or auto".
struct CudaUnavailable : ConfigError {
  explicit CudaUnavailable(const std::string& why)
      : ConfigError("CUDA backend unavailable: " + why + "; use device: cpu, or auto"),
        reason(why) {}
  std::string reason;
};

/// An engine of the plugin at `path` (with no slash in it: where the loader looks). Every failure
/// is a CudaUnavailable.
Engine load_engine_plugin(const std::string& path, const EngineOptions& options);

}  // namespace sluice::kernels
