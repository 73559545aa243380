// The vocabulary of the published OPT models, which is not ours and so is not in the repository.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace sluice::support {

/// $SLUICE_OPT_TOKENIZER, or a folder beside the checkout. Empty path: it is not on this machine.
inline std::filesystem::path opt_tokenizer_folder() {
  const char* named = std::getenv("SLUICE_OPT_TOKENIZER");
  const std::filesystem::path folder =
      named != nullptr ? std::filesystem::path(named)
                       : std::filesystem::path(SLUICE_SOURCE_DIR) / "../shared/data/opt-tokenizer";
  return std::filesystem::exists(folder / "vocab.json") ? folder : std::filesystem::path();
}

constexpr const char* kNoOptTokenizer =
    "the OPT vocabulary is not here: set SLUICE_OPT_TOKENIZER to a folder with vocab.json, "
    "merges.txt "
    "and cases.json";

}  // namespace sluice::support
