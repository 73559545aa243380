#include "launcher/tokenizer/input_file.h"

#include <fmt/format.h>

#include <fstream>
#include <system_error>

#include "kernels/device/error.h"

namespace sluice::launcher {

std::string read_input_file(const std::filesystem::path& path) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(path, failure)) {
    throw InputError(fmt::format("{} is not there or is no regular file", path.string()));
  }
  const std::uintmax_t bytes = std::filesystem::file_size(path, failure);
  if (failure) {
    throw InputError(fmt::format("cannot read {}: {}", path.string(), failure.message()));
  }
  if (bytes > kMaxTokenizerFileBytes) {
    throw InputError(
        fmt::format("{} has {} bytes, more than the {} that a tokenizer's file may have",
                    path.string(), bytes, kMaxTokenizerFileBytes));
  }
  std::string text(static_cast<std::size_t>(bytes), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(bytes)) && bytes > 0) {
    throw InputError(
        fmt::format("cannot read {}: got {} of {} bytes", path.string(), file.gcount(), bytes));
  }
  return text;
}

std::string json_problem(std::string_view what) {
  const std::size_t bracket = what.find("] ");
  if (what.starts_with("[json.exception") && bracket != std::string_view::npos) {
    what.remove_prefix(bracket + 2);
  }
  return std::string(what);
}

}  // namespace sluice::launcher
