// Cuts added tokens out of a text before the rest is cut into words.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {

/// Of several tokens that begin at one place the longest counts, and a text is read from left to
/// right. First come the tokens that are not `normalized`; the others are then looked for in each
/// piece between those. Immutable: any thread may use it.
/// Source: github.com/huggingface/tokenizers, tokenizer/added_vocabulary.rs (find_matches).
class AddedTokens {
 public:
  explicit AddedTokens(const std::vector<AddedToken>& tokens);

  /// Calls `piece` with each text between tokens that is not empty, and `token` with each token's
  /// id, in order. Pre: `text` is valid UTF-8.
  void cut(std::string_view text, const std::function<void(std::string_view)>& piece,
           const std::function<void(std::int32_t)>& token) const;

 private:
  /// The tokens of one turn.
  class Finder {
   public:
    void add(const AddedToken& token);
    void cut(std::string_view text, const std::function<void(std::string_view)>& piece,
             const std::function<void(std::int32_t)>& token) const;

   private:
    const AddedToken* match(std::string_view text) const;
    const AddedToken* find(std::string_view text, std::size_t& begin) const;

    /// Lets the map be asked for a part of a text without a copy of it.
    struct Hash {
      using is_transparent = void;
      std::size_t operator()(std::string_view text) const {
        return std::hash<std::string_view>()(text);
      }
    };
    std::unordered_map<std::string, AddedToken, Hash, std::equal_to<>> tokens_;  // by text
    std::vector<std::size_t> sizes_;  // of their texts, the longest first
    std::string leads_;               // their first bytes
  };

  Finder raw_;
  Finder normalized_;
};

}  // namespace sluice::launcher
