// Parts of this program that are loaded only where they are wanted, because they link libraries
// that not every machine has: the CUDA engine, NCCL.
#pragma once

#include <stdexcept>
#include <string>

namespace sluice::kernels {

/// Why a plugin cannot be used: a phrase without a full stop, naming the file.
struct PluginProblem : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What a program asks of a plugin before it uses it.
struct PluginContract {
  const char* file;          // "libsluice_cuda.so"
  const char* abi_function;  // of type int(): asked first, and nothing else where it differs
  int abi;
  const char* abi_name;  // "engine": of what it is the number
};

/// Where the plugin `file` of this program is: beside it, in ../lib/sluice from there, or (`file`
/// itself) where the loader looks. Throws PluginProblem.
std::string find_plugin(const char* file);

/// Whether the loader finds a library.
bool can_load(const char* library);

/// A plugin that is open. Closed by the destructor, unless keep() was called.
class Plugin {
 public:
  /// `path` with no slash in it: where the loader looks. Throws PluginProblem, also where the ABI
  /// numbers differ.
  Plugin(const std::string& path, const PluginContract& contract);
  ~Plugin();
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  /// Throws PluginProblem where there is none of that name.
  template <class Function>
  Function function(const char* name) const {
    return reinterpret_cast<Function>(address(name));
  }

  /// Keeps the plugin loaded until the process ends. Its threads, exit handlers, exceptions and
  /// objects would otherwise lose their code.
  void keep() { kept_ = true; }

 private:
  void* address(const char* name) const;

  std::string path_;
  void* library_ = nullptr;
  bool kept_ = false;
};

}  // namespace sluice::kernels
