// Names of parametrized tests.
#pragma once

#include <gtest/gtest.h>

#include <cctype>
#include <string>

namespace sluice::support {

/// A checkpoint's name as GoogleTest takes it: letters, digits and underscores.
inline std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

}  // namespace sluice::support
