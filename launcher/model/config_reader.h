// An object of a JSON file whose values are asked for by key and type. Every complaint names file
// and key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/device/dtype.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

/// What null means for a key: nothing that can be, or "none", as if the key were absent.
enum class IfNull { refuse, absent };

class ConfigReader {
 public:
  /// Throws InputError for what is no JSON object, or has a key twice.
  explicit ConfigReader(const std::filesystem::path& path);

  const std::string& where() const { return where_; }
  /// Throws InputError: the file, `what`, and what to do.
  [[noreturn]] void fail(const std::string& what) const;

  bool has(const char* key) const;
  // These throw InputError for a value of another type. `fallback` is for an absent key.
  std::int32_t integer(const char* key, std::int32_t fallback,
                       IfNull if_null = IfNull::refuse) const;
  /// An integer of 1 or more.
  std::int32_t size(const char* key, std::int32_t fallback, IfNull if_null = IfNull::refuse) const;
  bool flag(const char* key, bool fallback) const;
  std::string text(const char* key, const std::string& fallback,
                   IfNull if_null = IfNull::refuse) const;
  /// One integer, or a list of them that is not empty; null is absent.
  std::vector<std::int32_t> integers(const char* key, std::vector<std::int32_t> fallback) const;

 private:
  /// Null: the key is absent.
  const Json* find(const char* key, IfNull if_null) const;

  std::string where_;
  Json object_;
};

/// torch_dtype, or dtype as newer versions of transformers call it; absent: float32.
DType dtype_of(const ConfigReader& config);

}  // namespace sluice::launcher
