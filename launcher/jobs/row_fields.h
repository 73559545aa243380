// The fields of a row, typed: one that is there has its type and range, or the row has a problem.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/json/json.h"

namespace sluice::launcher {

/// What is wrong with a row, on its way to a RowFailure.
struct RowProblem {
  std::string message;
  std::string param;      // the field at fault
  std::string code = {};  // OpenAI's word for it; empty: none
};

/// A value as part of a sentence.
std::string shown(const Json& value);

/// Each function throws RowProblem for a value of another type or out of range. Null counts as
/// absent.
class RowFields {
 public:
  /// `object` must outlive it.
  explicit RowFields(const Json& object) : object_(object) {}

  const Json* find(const char* name) const;
  const Json& object() const { return object_; }

  [[noreturn]] static void refuse(const char* name, const Json& value, const std::string& wanted);

  std::optional<std::int64_t> integer(const char* name, std::int64_t low, std::int64_t high) const;
  /// A number of [low, high], or of (low, high].
  std::optional<float> number(const char* name, float low, float high, bool without_low) const;
  std::optional<bool> boolean(const char* name) const;
  std::optional<std::string> text(const char* name) const;
  std::optional<std::vector<std::int32_t>> ids(const char* name, std::int32_t vocabulary) const;
  /// Throws unless the value is absent or `harmless`: a field for what sluice does not do may ask
  /// for nothing.
  void require(const char* name, bool (*harmless)(const Json&)) const;

 private:
  const Json& object_;
};

}  // namespace sluice::launcher
