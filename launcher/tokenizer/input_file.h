// Whole small files of a model folder, and JSON errors as part of a sentence.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sluice::launcher {

/// No file of a tokenizer is near this; a larger one is not read.
constexpr std::uintmax_t kMaxTokenizerFileBytes = std::uintmax_t{256} << 20;

/// Throws InputError if it is no regular file, larger than kMaxTokenizerFileBytes, or cannot be
/// read.
std::string read_input_file(const std::filesystem::path& path);

/// What a JSON library's exception says, without the library's own prefix.
std::string json_problem(std::string_view what);

}  // namespace sluice::launcher
