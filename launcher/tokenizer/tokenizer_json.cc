// tokenizer.json of Hugging Face's `tokenizers`: the byte-level BPE kind, which is all that OPT and
// Galactica need.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "kernels/device/error.h"
#include "launcher/tokenizer/json_problem.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw InputError(
      fmt::format("{}: {} is not supported; only byte-level BPE, as OPT and Galactica "
                  "use it, is",
                  where, what));
}

const json& member(const json& object, const char* key) {
  static const json null;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : null;
}

std::string type_of(const json& object) {
  const json& type = member(object, "type");
  return type.is_string() ? type.get<std::string>() : "none";
}

bool is_true(const json& value) { return value.is_boolean() && value.get<bool>(); }

/// Absent, null, false, 0 and "" are how these files say "not used".
bool is_used(const json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0.0;
  if (value.is_string()) return !value.get<std::string>().empty();
  return !value.empty();
}

void read_model(const json& model, const std::string& where, Vocabulary& vocabulary) {
  // Files older than 2020 lack the type; BPE's are then told by their merges.
  if (type_of(model) != "BPE" &&
      (type_of(model) != "none" || !member(model, "merges").is_array())) {
    refuse(where, fmt::format("a model of type \"{}\"", type_of(model)));
  }
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                          "byte_fallback", "ignore_merges"}) {
    if (is_used(member(model, key))) refuse(where, fmt::format("model.{}", key));
  }
  read_token_ids(member(model, "vocab").dump(), where + ": model.vocab", vocabulary);
  const json& merges = member(model, "merges");
  if (!merges.is_array()) throw InputError(where + ": model.merges is no list");
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const json& merge = merges[i];
    const std::string place = fmt::format("{}: model.merges[{}]", where, i);
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      add_merge(merge[0].get<std::string>(), merge[1].get<std::string>(), place, vocabulary);
      continue;
    }
    const std::string line = merge.is_string() ? merge.get<std::string>() : "";
    const std::size_t blank = line.find(' ');
    if (blank == std::string::npos || line.find(' ', blank + 1) != std::string::npos) {
      throw InputError(place + " is not two tokens with one blank between them");
    }
    add_merge(line.substr(0, blank), line.substr(blank + 1), place, vocabulary);
  }
}

void read_byte_level(const json& step, const std::string& where) {
  if (is_true(member(step, "add_prefix_space"))) refuse(where, "add_prefix_space");
  const json& use_regex = member(step, "use_regex");
  if (!use_regex.is_null() && !is_true(use_regex)) refuse(where, "ByteLevel without its pattern");
}

/// ByteLevel; or a sequence of Digits (one by one) and ByteLevel, which is Galactica's. Its Split
/// on a text that no one writes is let pass.
void read_pre_tokenizer(const json& step, const std::string& where, Vocabulary& vocabulary) {
  const std::string type = type_of(step);
  if (type == "ByteLevel") {
    read_byte_level(step, where);
    return;
  }
  const json& steps = member(step, "pretokenizers");
  if (type != "Sequence" || !steps.is_array() || steps.empty() ||
      type_of(steps.back()) != "ByteLevel") {
    refuse(where, fmt::format("a pre_tokenizer of type \"{}\"", type));
  }
  read_byte_level(steps.back(), where);
  for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
    const json& part = steps[i];
    if (type_of(part) == "Digits" && is_true(member(part, "individual_digits"))) {
      vocabulary.single_digits = true;
    } else if (type_of(part) != "Split" ||
               member(member(part, "pattern"), "String") != json("SPL1T-TH1S-Pl3A5E")) {
      refuse(where, fmt::format("a pre_tokenizer of type \"{}\"", type_of(part)));
    }
  }
}

/// Whether a BOS token is put in front.
bool reads_bos(const json& processor, const std::string& where, Vocabulary& vocabulary) {
  const std::string type = type_of(processor);
  if (processor.is_null() || type == "ByteLevel") return false;
  if (type == "Sequence" && member(processor, "processors").is_array()) {
    bool bos = false;
    for (const json& part : member(processor, "processors")) {
      bos = reads_bos(part, where, vocabulary) || bos;
    }
    return bos;
  }
  const json& single = member(processor, "single");
  if (type != "TemplateProcessing" || !single.is_array() || single.empty() || single.size() > 2 ||
      !single.back().contains("Sequence")) {
    refuse(where, fmt::format("a post_processor of type \"{}\" with more than a BOS token", type));
  }
  if (single.size() == 1) return false;
  const json& id = member(member(single[0], "SpecialToken"), "id");
  vocabulary.bos = id.is_string() ? vocabulary.find(id.get<std::string>()) : -1;
  if (vocabulary.bos < 0)
    throw InputError(where + ": post_processor names no token of the vocabulary");
  return true;
}

void read_added_tokens(const json& tokens, const std::string& where, Vocabulary& vocabulary) {
  if (!tokens.is_array()) return;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const json& token = tokens[i];
    const std::string place = fmt::format("{}: added_tokens[{}]", where, i);
    const json& id = member(token, "id");
    const json& content = member(token, "content");
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || !content.is_string()) {
      throw InputError(place + " has no id or no content");
    }
    for (const char* key : {"lstrip", "rstrip", "single_word"}) {
      if (is_true(member(token, key))) refuse(place, key);
    }
    add_added_token(content.get<std::string>(), id.get<std::int64_t>(),
                    is_true(member(token, "special")), place, vocabulary);
  }
}

}  // namespace

void read_tokenizer_json(const std::string& text, const std::string& where,
                         Vocabulary& vocabulary) {
  json file;
  try {
    file = json::parse(text);
  } catch (const json::exception& problem) {
    throw InputError(fmt::format("{} is no JSON: {}", where, json_problem(problem.what())));
  }
  if (is_used(member(file, "normalizer"))) {
    refuse(where, fmt::format("a normalizer of type \"{}\"", type_of(member(file, "normalizer"))));
  }
  read_model(member(file, "model"), where, vocabulary);
  read_pre_tokenizer(member(file, "pre_tokenizer"), where, vocabulary);
  read_added_tokens(member(file, "added_tokens"), where, vocabulary);
  vocabulary.add_bos = reads_bos(member(file, "post_processor"), where, vocabulary);
}

}  // namespace sluice::launcher
