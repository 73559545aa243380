// Hugging Face's own outputs for a reference checkpoint (tests/data/opt-reference and
// tests/data/families, README there).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace sluice::support {

struct ReferencePrompt {
  std::string id;
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> greedy;  // of new_tokens tokens, EOS does not stop it; may be empty
  std::vector<float> margins;        // of greedy: how far the token lies above the second
  /// Logits after the prompt's last token: of all tokens, or of those named.
  std::vector<std::int32_t> logit_ids;
  std::vector<float> logits;
};

struct ReferenceCases {
  std::string name;
  std::filesystem::path folder;
  std::int32_t new_tokens = 0;
  std::vector<ReferencePrompt> prompts;  // single, prefill_only and the rows of batches
  /// Stops at an id that ends answers or after max_new_tokens, that id included.
  struct Eos {
    std::vector<std::int32_t> prompt;
    std::int32_t max_new_tokens = 0;
    std::vector<std::int32_t> tokens;
  };
  std::vector<Eos> eos;
};

/// What comes out of every position of one prompt.
struct ReferenceRows {
  std::filesystem::path folder;
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> logit_ids;       // whose logits are there: of a small vocabulary, all
  bool is_whole = true;                      // ... they are all
  std::vector<std::vector<float>> logits;    // [prompt][logit_ids]
  std::vector<std::vector<float>> features;  // [prompt][width]: what the head's last product gets

  /// Of `token` after the prompt token at `position`. Nothing: its logit is not there, or not all
  /// are.
  std::optional<double> logprob(std::size_t position, std::int32_t token) const;
};

std::vector<std::string> reference_names();   // of OPT
std::vector<std::string> family_names();      // of all other families
std::vector<std::string> checkpoint_names();  // all of them
/// Throws std::runtime_error if the case file cannot be read.
ReferenceCases read_reference(const std::string& name);
ReferenceRows read_reference_rows(const std::string& name);

}  // namespace sluice::support
