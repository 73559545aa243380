// A model file of the SentencePiece library, which normalizes, cuts and merges by itself. The only
// door to that library.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "launcher/tokenizer/model.h"

namespace sluice::launcher {

struct Vocabulary;

class SentencePieceModel final : public Model {
 public:
  /// Throws InputError for a file that is no model of the library.
  explicit SentencePieceModel(const std::string& file);
  ~SentencePieceModel() override;

  /// The tokens of a model file, and how they become text. Throws as the constructor does.
  static void read(const std::string& file, Vocabulary& vocabulary);

  void append_tokens(std::string_view piece, Workspace& workspace,
                     std::vector<std::int32_t>& ids) const override;

 private:
  class Processor;
  std::unique_ptr<Processor> processor_;
};

/// tokenizer.model, or YaLM's voc_100b.sp. Empty: `folder` has neither.
std::filesystem::path sentence_piece_file(const std::filesystem::path& folder);

}  // namespace sluice::launcher
