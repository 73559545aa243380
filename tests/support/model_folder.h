// A folder that a test fills with files.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/support/scratch_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::support {

class ModelFolder {
 public:
  const std::filesystem::path& path() const { return folder_.path(); }

  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    std::ofstream file(path() / name, std::ios::binary | std::ios::trunc);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (!file) throw std::runtime_error("cannot write " + (path() / name).string());
    return path() / name;
  }

  std::string read(std::string_view name) const {
    std::ifstream file(path() / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

 private:
  ScratchFolder folder_;
};

/// vocab.json of small_vocabulary().
inline nlohmann::json small_token_ids(const Merges& merges) {
  nlohmann::json table = nlohmann::json::object();
  for (const auto& [token, id] : small_vocabulary(merges).ids) table[token] = id;
  return table;
}

}  // namespace sluice::support
