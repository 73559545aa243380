// Whole files in and out, and what a call that must be refused says.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "kernels/device/error.h"

namespace sluice::support {

inline std::filesystem::path write_file(const std::filesystem::path& path,
                                        const std::string& bytes) {
  // Truncating a file makes some file systems flush it when it is closed: thousands would take
  // long.
  std::filesystem::remove(path);
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
  return path;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// `value` in `bytes` little-endian bytes.
inline std::string little(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i)
    text += i < 8 ? static_cast<char>(value >> (8 * i) & 0xffU) : '\0';
  return text;
}

/// The sentence of the InputError that `call` throws; anything else fails the test.
template <typename Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not an InputError: " << error.what();
    return {};
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

/// One seeded mutation: a few bytes changed, or the end cut off, or a piece doubled.
inline std::string mutated(std::string bytes, std::uint64_t seed) {
  const auto next = [&seed] {  // splitmix64
    seed += 0x9e3779b97f4a7c15U;
    std::uint64_t x = (seed ^ seed >> 30U) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27U) * 0x94d049bb133111ebU;
    return x ^ x >> 31U;
  };
  const std::uint64_t kind = next() % 8;
  if (kind == 0) bytes.resize(next() % bytes.size());
  if (kind == 1) {
    const std::size_t at = next() % bytes.size();
    bytes.insert(at, bytes.substr(at, 1 + next() % 64));
  }
  if (kind >= 2) {
    for (std::uint64_t count = 1 + next() % 4; count > 0; --count) {
      const std::size_t at = next() % bytes.size();
      bytes[at] = static_cast<char>(next() % 3 == 0 ? 0xff : next());
    }
  }
  return bytes;
}

}  // namespace sluice::support
