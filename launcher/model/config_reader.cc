#include "launcher/model/config_reader.h"

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "offload/checkpoint/input_file.h"
#include "offload/checkpoint/json_walk.h"

namespace sluice::launcher {

namespace {

constexpr std::uint64_t kMaxConfigBytes = 4U << 20U;
constexpr std::size_t kMaxDepth = 16;

[[noreturn]] void wrong(const ConfigReader& config, const char* key, const Json& value,
                        const char* wanted) {
  config.fail(fmt::format("{} is {}, not {}", key, offload::printable(value.dump()), wanted));
}

std::int32_t integer_of(const ConfigReader& config, const char* key, const Json& value) {
  if (!value.is_integer_in(INT32_MIN, INT32_MAX)) {
    wrong(config, key, value, "an integer of 32 bits");
  }
  return static_cast<std::int32_t>(value.integer());
}

}  // namespace

const Json* ConfigReader::find(const char* key, IfNull if_null) const {
  const Json* value = object_.find(key);
  if (value == nullptr) return nullptr;
  return if_null == IfNull::absent && value->is_null() ? nullptr : value;
}

ConfigReader::ConfigReader(const std::filesystem::path& path)
    : ConfigReader(path.string(), offload::read_text_file(path, kMaxConfigBytes)) {}

ConfigReader::ConfigReader(std::string where, const std::string& text) : where_(std::move(where)) {
  // The walk refuses what the parser would let pass: duplicate keys, depth, NUL bytes.
  offload::walk_json(text, where_, kMaxDepth, [](offload::JsonPath, const offload::JsonValue&) {});
  object_ = Json::parse(text);
  if (!object_.is_object()) fail("it is no JSON object");
}

void ConfigReader::fail(const std::string& what) const {
  throw InputError(fmt::format("{}: {}; fetch the model again or mend the file", where_, what));
}

bool ConfigReader::has(const char* key) const { return find(key, IfNull::refuse) != nullptr; }

std::int32_t ConfigReader::integer(const char* key, std::int32_t fallback, IfNull if_null) const {
  const Json* value = find(key, if_null);
  return value == nullptr ? fallback : integer_of(*this, key, *value);
}

std::int32_t ConfigReader::size(const char* key, std::int32_t fallback, IfNull if_null) const {
  const std::int32_t value = integer(key, fallback, if_null);
  if (value < 1) fail(fmt::format("{} is {}, not 1 or more", key, value));
  return value;
}

const char* ConfigReader::first_of(std::initializer_list<const char*> keys) const {
  for (const char* key : keys) {
    if (find(key, IfNull::absent) != nullptr) return key;
  }
  return *keys.begin();
}

double ConfigReader::real(const char* key, double fallback, IfNull if_null) const {
  const Json* value = find(key, if_null);
  if (value == nullptr) return fallback;
  if (!value->is_number()) wrong(*this, key, *value, "a number");
  return value->number();
}

bool ConfigReader::flag(const char* key, bool fallback, IfNull if_null) const {
  const Json* value = find(key, if_null);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) wrong(*this, key, *value, "true or false");
  return value->boolean();
}

std::string ConfigReader::text(const char* key, const std::string& fallback, IfNull if_null) const {
  const Json* value = find(key, if_null);
  if (value == nullptr) return fallback;
  if (!value->is_string()) wrong(*this, key, *value, "a string");
  return value->text();
}

std::vector<std::int32_t> ConfigReader::integers(const char* key,
                                                 std::vector<std::int32_t> fallback) const {
  const Json* value = find(key, IfNull::absent);
  if (value == nullptr) return fallback;
  if (!value->is_array()) return {integer_of(*this, key, *value)};
  std::vector<std::int32_t> result;
  for (const Json& item : *value) result.push_back(integer_of(*this, key, item));
  if (result.empty()) wrong(*this, key, *value, "an integer or a list of some");
  return result;
}

std::vector<double> ConfigReader::reals(const char* key) const {
  std::vector<double> result;
  const Json* value = find(key, IfNull::absent);
  if (value == nullptr) return result;
  if (!value->is_array()) wrong(*this, key, *value, "a list of numbers");
  for (const Json& item : *value) {
    if (!item.is_number()) wrong(*this, key, *value, "a list of numbers");
    result.push_back(item.number());
  }
  return result;
}

std::vector<std::string> ConfigReader::texts(const char* key) const {
  std::vector<std::string> result;
  const Json* value = find(key, IfNull::absent);
  if (value == nullptr) return result;
  if (!value->is_array()) wrong(*this, key, *value, "a list of strings");
  for (const Json& item : *value) {
    if (!item.is_string()) wrong(*this, key, *value, "a list of strings");
    result.push_back(item.text());
  }
  return result;
}

std::optional<ConfigReader> ConfigReader::object(const char* key) const {
  const Json* value = find(key, IfNull::absent);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) wrong(*this, key, *value, "an object");
  return ConfigReader(fmt::format("{}: {}", where_, key), *value);
}

void ConfigReader::refuse_flag(const char* key) const {
  if (flag(key, false, IfNull::absent)) {
    fail(fmt::format("{} is true, and models with it cannot run", key));
  }
}

DType dtype_of(const ConfigReader& config) {
  const std::string name =
      config.text("torch_dtype", config.text("dtype", "float32", IfNull::absent), IfNull::absent);
  if (name == "float32") return DType::f32;
  if (name == "float16") return DType::f16;
  if (name == "bfloat16") return DType::bf16;
  config.fail(
      fmt::format("torch_dtype is \"{}\", but only float32, float16 and bfloat16 are supported",
                  offload::printable(name)));
}

}  // namespace sluice::launcher
