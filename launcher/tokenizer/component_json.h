// The components of a tokenizer.json: JSON to steps. What cannot be followed exactly is refused by
// name. Source: github.com/huggingface/tokenizers, folders normalizers, pre_tokenizers, decoders
// and processors.
#pragma once

#include <string>
#include <vector>

#include "launcher/json/json.h"
#include "launcher/tokenizer/steps.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {

/// Reads the members of one component. Messages name the file and the component.
class ComponentReader {
 public:
  ComponentReader(const Json& object, std::string where);

  const std::string& type() const { return type_; }
  const std::string& where() const { return where_; }
  const Json& member(const char* key) const { return object_.member(key); }

  /// Of a text, a flag, a whole number from 0: `otherwise` where it is absent or null.
  std::string text(const char* key, const std::string& otherwise) const;
  bool flag(const char* key, bool otherwise) const;
  std::int64_t count(const char* key, std::int64_t otherwise) const;
  /// {"String": "..."} or {"Regex": "..."}.
  StepPattern pattern(const char* key) const;

  [[noreturn]] void refuse(const std::string& what) const;
  [[noreturn]] void refuse_type() const { refuse("this type"); }

 private:
  const Json& object_;
  std::string where_;
  std::string type_;
};

/// The steps of a component: those of a "Sequence" and of sequences in it, else the component
/// itself. None for null. `list`: the key of a sequence's steps.
std::vector<ComponentReader> steps_of(const Json& component, const char* list,
                                      const std::string& where);

std::vector<NormalizerStep> read_normalizer(const Json& component, const std::string& where);
std::vector<PreTokenizerStep> read_pre_tokenizer(const Json& component, const std::string& where);
std::vector<DecoderStep> read_decoder(const Json& component, const std::string& where);
/// The tokens around every text: the vocabulary's prefix and suffix.
void read_post_processor(const Json& component, const std::string& where, Vocabulary& vocabulary);

}  // namespace sluice::launcher
