#include "launcher/tokenizer/component_json.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

std::string single_character(const ComponentReader& step, const char* key,
                             const std::string& otherwise) {
  std::string text = step.text(key, otherwise);
  if (text.empty() || first_part(text).bytes != text.size()) {
    step.refuse(fmt::format("\"{}\" with other than one character", key));
  }
  return text;
}

SplitBehavior read_behavior(const ComponentReader& step) {
  constexpr std::array<std::pair<const char*, SplitBehavior>, 5> kNames = {
      {{"Removed", SplitBehavior::removed},
       {"Isolated", SplitBehavior::isolated},
       {"MergedWithPrevious", SplitBehavior::merged_with_previous},
       {"MergedWithNext", SplitBehavior::merged_with_next},
       {"Contiguous", SplitBehavior::contiguous}}};
  const std::string name = step.text("behavior", "Isolated");
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  step.refuse(fmt::format("the behavior \"{}\"", name));
}

/// Older files say add_prefix_space for always or never.
PrependScheme read_prepend_scheme(const ComponentReader& step) {
  const std::string scheme = step.text("prepend_scheme", "always");
  if (!step.flag("add_prefix_space", true)) return PrependScheme::never;
  if (scheme == "always") return PrependScheme::always;
  if (scheme == "first") return PrependScheme::first;
  if (scheme == "never") return PrependScheme::never;
  step.refuse(fmt::format("the prepend_scheme \"{}\"", scheme));
}

NormalizerStep normalizer_step(const ComponentReader& step) {
  using Kind = NormalizerStep::Kind;
  const std::string& type = step.type();
  if (type == "NFC") return {.kind = Kind::nfc};
  if (type == "NFD") return {.kind = Kind::nfd};
  if (type == "NFKC") return {.kind = Kind::nfkc};
  if (type == "NFKD") return {.kind = Kind::nfkd};
  if (type == "Lowercase") return {.kind = Kind::lowercase};
  if (type == "StripAccents") return {.kind = Kind::strip_accents};
  if (type == "Prepend") return {.kind = Kind::prepend, .content = step.text("prepend", "")};
  if (type == "Replace") {
    return {.kind = Kind::replace,
            .pattern = step.pattern("pattern"),
            .content = step.text("content", "")};
  }
  if (type == "Strip") {
    return {.kind = Kind::strip,
            .left = step.flag("strip_left", true),
            .right = step.flag("strip_right", true)};
  }
  step.refuse_type();
}

PreTokenizerStep pre_tokenizer_step(const ComponentReader& step) {
  using Kind = PreTokenizerStep::Kind;
  const std::string& type = step.type();
  PreTokenizerStep made;
  if (type == "ByteLevel") {
    made.kind = Kind::byte_level;
    made.prefix_space = step.flag("add_prefix_space", false);
    made.use_regex = step.flag("use_regex", true);
  } else if (type == "Split") {
    made.kind = Kind::split;
    made.pattern = step.pattern("pattern");
    made.behavior = read_behavior(step);
    made.invert = step.flag("invert", false);
  } else if (type == "Digits") {
    made.kind = Kind::digits;
    made.individual_digits = step.flag("individual_digits", false);
  } else if (type == "Punctuation") {
    made.kind = Kind::punctuation;
    made.behavior = read_behavior(step);
  } else if (type == "Metaspace") {
    made.kind = Kind::metaspace;
    made.replacement = single_character(step, "replacement", "\u2581");
    made.prepend = read_prepend_scheme(step);
    made.split = step.flag("split", true);
  } else if (type == "Whitespace") {
    made.kind = Kind::whitespace;
  } else if (type == "WhitespaceSplit") {
    made.kind = Kind::whitespace_split;
  } else {
    step.refuse_type();
  }
  return made;
}

DecoderStep decoder_step(const ComponentReader& step) {
  using Kind = DecoderStep::Kind;
  const std::string& type = step.type();
  if (type == "ByteLevel") return {.kind = Kind::byte_level};
  if (type == "ByteFallback") return {.kind = Kind::byte_fallback};
  if (type == "Fuse") return {.kind = Kind::fuse};
  if (type == "Replace") {
    return {.kind = Kind::replace,
            .pattern = step.pattern("pattern"),
            .content = step.text("content", "")};
  }
  if (type == "Strip") {
    return {.kind = Kind::strip,
            .content = single_character(step, "content", " "),
            .start = step.count("start", 0),
            .stop = step.count("stop", 0)};
  }
  if (type == "Metaspace") {
    return {.kind = Kind::metaspace,
            .content = single_character(step, "replacement", "\u2581"),
            .prepended = read_prepend_scheme(step) != PrependScheme::never};
  }
  step.refuse_type();
}

}  // namespace

ComponentReader::ComponentReader(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  const Json& type = object.member("type");
  type_ = type.is_string() ? type.text() : "none";
}

void ComponentReader::refuse(const std::string& what) const {
  throw InputError(fmt::format("{} of type \"{}\": {} is not supported", where_, type_, what));
}

std::string ComponentReader::text(const char* key, const std::string& otherwise) const {
  const Json& value = member(key);
  if (value.is_null()) return otherwise;
  if (!value.is_string()) refuse(fmt::format("{} as \"{}\"", value.dump(), key));
  return value.text();
}

bool ComponentReader::flag(const char* key, bool otherwise) const {
  const Json& value = member(key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) refuse(fmt::format("{} as \"{}\"", value.dump(), key));
  return value.boolean();
}

std::int64_t ComponentReader::count(const char* key, std::int64_t otherwise) const {
  const Json& value = member(key);
  if (value.is_null()) return otherwise;
  if (!value.is_integer_in(0, INT32_MAX)) refuse(fmt::format("{} as \"{}\"", value.dump(), key));
  return value.integer();
}

StepPattern ComponentReader::pattern(const char* key) const {
  const Json& value = member(key);
  const bool is_regex = value.contains("Regex");
  const Json& text = is_regex ? value.member("Regex") : value.member("String");
  if (!text.is_string() || text.text().empty()) {
    refuse(fmt::format("the {} {}", key, value.dump()));
  }
  return {text.text(), is_regex};
}

std::vector<ComponentReader> steps_of(const Json& component, const char* list,
                                      const std::string& where) {
  if (component.is_null()) return {};
  ComponentReader reader(component, where);
  if (reader.type() != "Sequence") return {std::move(reader)};
  const Json& parts = component.member(list);
  if (!parts.is_array()) reader.refuse(fmt::format("a sequence without \"{}\"", list));
  std::vector<ComponentReader> steps;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string place = fmt::format("{}.{}[{}]", where, list, i);
    for (ComponentReader& step : steps_of(parts[i], list, place)) steps.push_back(std::move(step));
  }
  return steps;
}

std::vector<NormalizerStep> read_normalizer(const Json& component, const std::string& where) {
  std::vector<NormalizerStep> steps;
  for (const ComponentReader& step : steps_of(component, "normalizers", where + ": normalizer")) {
    steps.push_back(normalizer_step(step));
  }
  return steps;
}

std::vector<PreTokenizerStep> read_pre_tokenizer(const Json& component, const std::string& where) {
  std::vector<PreTokenizerStep> steps;
  for (const ComponentReader& step :
       steps_of(component, "pretokenizers", where + ": pre_tokenizer")) {
    steps.push_back(pre_tokenizer_step(step));
  }
  return steps;
}

std::vector<DecoderStep> read_decoder(const Json& component, const std::string& where) {
  std::vector<DecoderStep> steps;
  for (const ComponentReader& step : steps_of(component, "decoders", where + ": decoder")) {
    steps.push_back(decoder_step(step));
  }
  return steps;
}

}  // namespace sluice::launcher
