// tokenizer.json of Hugging Face's `tokenizers`, of the byte-level BPE kind. What this file cannot
// follow exactly it refuses by name.
// Source: github.com/huggingface/tokenizers, tokenizer/serialization.rs, models/bpe/model.rs,
// pre_tokenizers/byte_level.rs and processors/.
#include <fmt/format.h>

#include "kernels/device/error.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw InputError(
      fmt::format("{}: {} is not supported; only byte-level BPE, as OPT, GPT-2 and Galactica use "
                  "it, is",
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

/// The steps of a component: those of a "Sequence" and of sequences in it, else the component
/// itself. None for null.
std::vector<Json> steps_of(const Json& step, const char* key) {
  if (step.is_null()) return {};
  if (type_of(step) != "Sequence" || !step.member(key).is_array()) return {step};
  std::vector<Json> steps;
  for (const Json& part : step.member(key)) {
    for (Json& one : steps_of(part, key)) steps.push_back(std::move(one));
  }
  return steps;
}

/// What the model does with bytes that the vocabulary lacks.
void read_unknown(const Json& model, const std::string& where, Vocabulary& vocabulary) {
  vocabulary.drops_bytes = true;
  vocabulary.fuses_unknown = is_true(model.member("fuse_unk"));
  const Json& unknown = model.member("unk_token");
  if (!unknown.is_string()) return;
  vocabulary.unknown = vocabulary.find(unknown.text());
  if (vocabulary.unknown < 0) {
    throw InputError(
        fmt::format("{}: model.unk_token is {}, which model.vocab lacks", where, unknown.dump()));
  }
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
  vocabulary.merges_in_rounds = false;
  vocabulary.added_as_text = false;
  read_unknown(model, where, vocabulary);
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

/// Reads up to three steps: a text that is cut out, digits one by one, and ByteLevel. The last must
/// be there. (Galactica has all three; nobody writes the text that it cuts out.)
void read_pre_tokenizer(const Json& pre_tokenizer, const std::string& where,
                        Vocabulary& vocabulary) {
  const std::vector<Json> steps = steps_of(pre_tokenizer, "pretokenizers");
  if (steps.empty() || type_of(steps.back()) != "ByteLevel") {
    refuse(where, fmt::format("a pre_tokenizer of type \"{}\"",
                              steps.empty() ? type_of(pre_tokenizer) : type_of(steps.back())));
  }
  for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
    const Json& step = steps[i];
    const Json& text = step.member("pattern").member("String");
    if (type_of(step) == "Digits" && is_true(step.member("individual_digits"))) {
      vocabulary.single_digits = true;
    } else if (type_of(step) == "Split" && text.is_string() && !text.text().empty() && i == 0 &&
               step.member("behavior") == Json("Removed") && !is_true(step.member("invert"))) {
      vocabulary.removed = text.text();
    } else {
      refuse(where,
             fmt::format("a pre_tokenizer of type \"{}\", as it is used there,", type_of(step)));
    }
  }
  vocabulary.prefix_space = is_true(steps.back().member("add_prefix_space"));
  const Json& use_regex = steps.back().member("use_regex");
  vocabulary.splits_words = use_regex.is_null() || is_true(use_regex);
}

/// TemplateProcessing: the tokens on either side of the text.
void read_template(const Json& processor, const std::string& where, Vocabulary& vocabulary) {
  const Json& single = processor.member("single");
  bool has_text = false;
  for (const Json& piece : single) {
    if (piece.member("Sequence").member("id") == Json("A") && !has_text) {
      has_text = true;
      continue;
    }
    const Json& name = piece.member("SpecialToken").member("id");
    if (!name.is_string()) refuse(where, "a post_processor with such a template");
    const Json& entry = processor.member("special_tokens").member(name.text());
    const Json own = Json::array({vocabulary.find(name.text())});
    for (const Json& id : entry.member("ids").is_array() ? entry.member("ids") : own) {
      if (!id.is_integer_in(0, vocabulary.size - 1)) {
        throw InputError(fmt::format("{}: post_processor: \"{}\" is no token of the vocabulary",
                                     where, name.text()));
      }
      (has_text ? vocabulary.suffix : vocabulary.prefix)
          .push_back(static_cast<std::int32_t>(id.integer()));
    }
  }
  if (!has_text) refuse(where, "a post_processor whose template lacks the text");
}

/// RobertaProcessing: cls in front, sep behind, each ["token", id].
void read_roberta(const Json& processor, const std::string& where, Vocabulary& vocabulary) {
  const auto read = [&](const char* key, std::vector<std::int32_t>& ids) {
    const Json& token = processor.member(key);
    if (!token.is_array() || token.size() != 2 || !token[1].is_integer_in(0, vocabulary.size - 1)) {
      throw InputError(
          fmt::format("{}: post_processor.{} is no token of the vocabulary", where, key));
    }
    ids.push_back(static_cast<std::int32_t>(token[1].integer()));
  };
  read("cls", vocabulary.prefix);
  read("sep", vocabulary.suffix);
}

void read_post_processor(const Json& processor, const std::string& where, Vocabulary& vocabulary) {
  bool adds = false;  // a second step would take what the first has added for texts
  for (const Json& step : steps_of(processor, "processors")) {
    const std::string type = type_of(step);
    if (type == "ByteLevel") continue;  // concerns places in the text, not ids
    if (adds) refuse(where, "a post_processor with two steps that add tokens");
    adds = true;
    if (type == "TemplateProcessing") {
      read_template(step, where, vocabulary);
    } else if (type == "RobertaProcessing") {
      read_roberta(step, where, vocabulary);
    } else {
      refuse(where, fmt::format("a post_processor of type \"{}\"", type));
    }
  }
}

/// A token has the id of the vocabulary, or else the next free id. Hugging Face, too, passes over
/// the id that the file gives.
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
    AddedToken added;
    added.text = content.text();
    added.special = is_true(token.member("special"));
    added.single_word = is_true(token.member("single_word"));
    added.lstrip = is_true(token.member("lstrip"));
    added.rstrip = is_true(token.member("rstrip"));
    added.normalized = is_true(token.member("normalized"));
    if (vocabulary.find(added.text) < 0) added.id = next_added_id(vocabulary);
    add_added_token(added, place, vocabulary);
  }
}

/// ByteLevel joins bytes without blanks; every other decoder makes other texts.
void check_decoder(const Json& decoder, const std::string& where) {
  const std::vector<Json> steps = steps_of(decoder, "decoders");
  if (steps.size() == 1 && type_of(steps.front()) == "ByteLevel") return;
  refuse(where, fmt::format("a decoder of type \"{}\"", type_of(decoder)));
}

}  // namespace

void read_tokenizer_json(const std::string& text, const std::string& where,
                         Vocabulary& vocabulary) {
  const Json file = parse_tokenizer_json(text, where);
  const Json& normalizer = file.member("normalizer");
  if (!steps_of(normalizer, "normalizers").empty()) {
    refuse(where, fmt::format("a normalizer of type \"{}\"", type_of(normalizer)));
  }
  read_model(file.member("model"), where, vocabulary);
  read_pre_tokenizer(file.member("pre_tokenizer"), where, vocabulary);
  read_added_tokens(file.member("added_tokens"), where, vocabulary);
  read_post_processor(file.member("post_processor"), where, vocabulary);
  check_decoder(file.member("decoder"), where);
}

}  // namespace sluice::launcher
