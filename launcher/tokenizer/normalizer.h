// What is done with a text before it is cut into pieces: normal forms, replacements, case.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launcher/tokenizer/steps.h"

namespace sluice::launcher {

/// Immutable: any thread may use it.
/// Source: github.com/huggingface/tokenizers, folder normalizers.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// Pre: valid UTF-8.
  virtual void apply(std::string& text) const = 0;
};

/// All steps, one after the other. Null: there are none. Throws InputError naming `where` for a
/// pattern that is no regular expression.
std::unique_ptr<const Normalizer> make_normalizer(const std::vector<NormalizerStep>& steps,
                                                  const std::string& where);

/// For people: "NFC, lower case".
std::string describe(const std::vector<NormalizerStep>& steps);

}  // namespace sluice::launcher
