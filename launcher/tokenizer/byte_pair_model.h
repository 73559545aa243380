// Byte-pair encoding: the symbols of a word, merged by rank.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "launcher/tokenizer/merges.h"
#include "launcher/tokenizer/model.h"
#include "launcher/tokenizer/symbols.h"

namespace sluice::launcher {

struct Vocabulary;

/// Source: github.com/huggingface/tokenizers, models/bpe/model.rs.
class BytePairModel final : public Model {
 public:
  /// Of a vocabulary of kind bytes or characters. Throws InputError where it lacks what its kind
  /// needs.
  explicit BytePairModel(const Vocabulary& vocabulary);

  void append_tokens(std::string_view piece, Workspace& workspace,
                     std::vector<std::int32_t>& ids) const override;

 private:
  void append_word(std::string_view word, Workspace& workspace,
                   std::vector<std::int32_t>& ids) const;

  std::unique_ptr<const Symbols> symbols_;
  Merges merges_;
  bool in_rounds_;
  /// Pieces that are a token as they are, whatever the merges say; empty: merges decide.
  std::unordered_map<std::string, std::int32_t> whole_;
};

}  // namespace sluice::launcher
