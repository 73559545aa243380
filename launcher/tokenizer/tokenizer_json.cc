// tokenizer.json of Hugging Face's `tokenizers`: the byte-level BPE kind, which is all that OPT and
// Galactica need.
#include <fmt/format.h>

#include "kernels/device/error.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw InputError(
      fmt::format("{}: {} is not supported; only byte-level BPE, as OPT and Galactica "
                  "use it, is",
                  where, what));
}

std::string type_of(const Json& object) {
  const Json& type = object.member("type");
  return type.is_string() ? type.text() : "none";
}

bool is_true(const Json& value) { return value.is_boolean() && value.boolean(); }

/// Absent, null, false, 0 and "" are how these files say "not used".
bool is_used(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.boolean();
  if (value.is_number()) return value.number() != 0.0;
  if (value.is_string()) return !value.text().empty();
  return !value.empty();
}

void read_model(const Json& model, const std::string& where, Vocabulary& vocabulary) {
  // Files older than 2020 lack the type; BPE's are then told by their merges.
  if (type_of(model) != "BPE" && (type_of(model) != "none" || !model.member("merges").is_array())) {
    refuse(where, fmt::format("a model of type \"{}\"", type_of(model)));
  }
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                          "byte_fallback", "ignore_merges"}) {
    if (is_used(model.member(key))) refuse(where, fmt::format("model.{}", key));
  }
  read_token_ids(model.member("vocab"), where + ": model.vocab", vocabulary);
  const Json& merges = model.member("merges");
  if (!merges.is_array()) throw InputError(where + ": model.merges is no list");
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    const std::string place = fmt::format("{}: model.merges[{}]", where, i);
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      add_merge(merge[0].text(), merge[1].text(), place, vocabulary);
      continue;
    }
    const std::string line = merge.is_string() ? merge.text() : "";
    const std::size_t blank = line.find(' ');
    if (blank == std::string::npos || line.find(' ', blank + 1) != std::string::npos) {
      throw InputError(place + " is not two tokens with one blank between them");
    }
    add_merge(line.substr(0, blank), line.substr(blank + 1), place, vocabulary);
  }
}

void read_byte_level(const Json& step, const std::string& where) {
  if (is_true(step.member("add_prefix_space"))) refuse(where, "add_prefix_space");
  const Json& use_regex = step.member("use_regex");
  if (!use_regex.is_null() && !is_true(use_regex)) refuse(where, "ByteLevel without its pattern");
}

/// ByteLevel; or a sequence of Digits (one by one) and ByteLevel, which is Galactica's. Its Split
/// on a text that no one writes is let pass.
void read_pre_tokenizer(const Json& step, const std::string& where, Vocabulary& vocabulary) {
  const std::string type = type_of(step);
  if (type == "ByteLevel") {
    read_byte_level(step, where);
    return;
  }
  const Json& steps = step.member("pretokenizers");
  if (type != "Sequence" || !steps.is_array() || steps.empty() ||
      type_of(steps.back()) != "ByteLevel") {
    refuse(where, fmt::format("a pre_tokenizer of type \"{}\"", type));
  }
  read_byte_level(steps.back(), where);
  for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
    const Json& part = steps[i];
    if (type_of(part) == "Digits" && is_true(part.member("individual_digits"))) {
      vocabulary.single_digits = true;
    } else if (type_of(part) != "Split" ||
               part.member("pattern").member("String") != Json("SPL1T-TH1S-Pl3A5E")) {
      refuse(where, fmt::format("a pre_tokenizer of type \"{}\"", type_of(part)));
    }
  }
}

/// Whether a BOS token is put in front.
bool reads_bos(const Json& processor, const std::string& where, Vocabulary& vocabulary) {
  const std::string type = type_of(processor);
  if (processor.is_null() || type == "ByteLevel") return false;
  if (type == "Sequence" && processor.member("processors").is_array()) {
    bool bos = false;
    for (const Json& part : processor.member("processors")) {
      bos = reads_bos(part, where, vocabulary) || bos;
    }
    return bos;
  }
  const Json& single = processor.member("single");
  if (type != "TemplateProcessing" || !single.is_array() || single.empty() || single.size() > 2 ||
      !single.back().contains("Sequence")) {
    refuse(where, fmt::format("a post_processor of type \"{}\" with more than a BOS token", type));
  }
  if (single.size() == 1) return false;
  const Json& id = single[0].member("SpecialToken").member("id");
  vocabulary.bos = id.is_string() ? vocabulary.find(id.text()) : -1;
  if (vocabulary.bos < 0)
    throw InputError(where + ": post_processor names no token of the vocabulary");
  return true;
}

void read_added_tokens(const Json& tokens, const std::string& where, Vocabulary& vocabulary) {
  if (!tokens.is_array()) return;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Json& token = tokens[i];
    const std::string place = fmt::format("{}: added_tokens[{}]", where, i);
    const Json& id = token.member("id");
    const Json& content = token.member("content");
    if (!id.is_integer_in(0, INT64_MAX) || !content.is_string()) {
      throw InputError(place + " has no id or no content");
    }
    for (const char* key : {"lstrip", "rstrip", "single_word"}) {
      if (is_true(token.member(key))) refuse(place, key);
    }
    add_added_token(content.text(), id.integer(), is_true(token.member("special")), place,
                    vocabulary);
  }
}

}  // namespace

void read_tokenizer_json(const std::string& text, const std::string& where,
                         Vocabulary& vocabulary) {
  const Json file = parse_tokenizer_json(text, where);
  if (is_used(file.member("normalizer"))) {
    refuse(where, fmt::format("a normalizer of type \"{}\"", type_of(file.member("normalizer"))));
  }
  read_model(file.member("model"), where, vocabulary);
  read_pre_tokenizer(file.member("pre_tokenizer"), where, vocabulary);
  read_added_tokens(file.member("added_tokens"), where, vocabulary);
  vocabulary.add_bos = reads_bos(file.member("post_processor"), where, vocabulary);
}

}  // namespace sluice::launcher
