// Walks a JSON text from an untrusted file without building it: memory is bounded by the open
// containers and their keys, depth by the caller, and duplicate keys are refused (of which the
// library would silently keep the last).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace sluice::offload {

struct JsonValue {
  enum class Kind : std::uint8_t { object, array, text, unsigned_integer, other };
  Kind kind = Kind::other;   // other: negative, fraction, true, false, null
  std::string_view text;     // of Kind::text; valid during the call
  std::uint64_t number = 0;  // of Kind::unsigned_integer
};

/// Where a value stands: the keys down to it, "[]" for an element of an array; empty for the root.
using JsonPath = std::span<const std::string>;

/// Calls `visit` for every value of `text`, a container before what is in it. Throws InputError
/// (naming `where` and the byte) for text that is not JSON, nested deeper than `max_depth`, or with
/// a key twice in one object; what `visit` throws goes through.
void walk_json(std::string_view text, const std::string& where, std::size_t max_depth,
               const std::function<void(JsonPath path, const JsonValue& value)>& visit);

}  // namespace sluice::offload
