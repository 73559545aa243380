// An object of a JSON file, or what stands for one, whose values are asked for by key and type.
// Every complaint names file and key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
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
  /// The same of a text; complaints name it `where`.
  ConfigReader(std::string where, const std::string& text);
  /// Pre: `object` is one. `where` is what complaints name.
  ConfigReader(std::string where, Json object)
      : where_(std::move(where)), object_(std::move(object)) {}

  const std::string& where() const { return where_; }
  /// Throws InputError: the file, `what`, and what to do.
  [[noreturn]] void fail(const std::string& what) const;

  /// Also where it is null.
  bool has(const char* key) const;
  /// The first of these keys that is there and not null; else the first. For keys that go by
  /// several names.
  const char* first_of(std::initializer_list<const char*> keys) const;
  // These throw InputError for a value of another type. `fallback` is for an absent key.
  std::int32_t integer(const char* key, std::int32_t fallback,
                       IfNull if_null = IfNull::refuse) const;
  /// An integer of 1 or more.
  std::int32_t size(const char* key, std::int32_t fallback, IfNull if_null = IfNull::refuse) const;
  /// A number, with a fraction or without.
  double real(const char* key, double fallback, IfNull if_null = IfNull::refuse) const;
  bool flag(const char* key, bool fallback, IfNull if_null = IfNull::refuse) const;
  std::string text(const char* key, const std::string& fallback,
                   IfNull if_null = IfNull::refuse) const;
  /// One integer, or a list of them that is not empty; null is absent.
  std::vector<std::int32_t> integers(const char* key, std::vector<std::int32_t> fallback) const;
  // Lists; empty where the key is absent or null.
  std::vector<double> reals(const char* key) const;
  std::vector<std::string> texts(const char* key) const;
  /// An object inside this one, whose complaints name its key as well; none where the key is absent
  /// or null.
  std::optional<ConfigReader> object(const char* key) const;

  /// Refuses a flag that must be false, or absent, as nothing here can do what it asks for.
  void refuse_flag(const char* key) const;

 private:
  /// Null: the key is absent.
  const Json* find(const char* key, IfNull if_null) const;

  std::string where_;
  Json object_;
};

/// torch_dtype, or dtype as newer versions of transformers call it; absent: float32.
DType dtype_of(const ConfigReader& config);

}  // namespace sluice::launcher
