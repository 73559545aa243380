// tokenizer.json of Hugging Face's `tokenizers`: byte-level BPE, BPE over characters, Unigram. What
// cannot be followed exactly is refused by name.
// Source: github.com/huggingface/tokenizers, tokenizer/serialization.rs, models/bpe/model.rs and
// models/unigram/serialization.rs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/device/error.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/component_json.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

bool is_true(const Json& value) { return value.is_boolean() && value.boolean(); }

/// Absent, null, false, 0 and "" are how these files say "not used".
bool is_used(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.boolean();
  if (value.is_number()) return value.number() != 0.0;
  if (value.is_string()) return !value.text().empty();
  return !value.empty();
}

/// Files older than 2020 lack the type; BPE's are then told by their merges, Unigram's by the list
/// that is their vocabulary.
std::string model_type(const Json& model) {
  const Json& type = model.member("type");
  if (type.is_string()) return type.text();
  if (model.member("merges").is_array()) return "BPE";
  return model.member("vocab").is_array() ? "Unigram" : "none";
}

/// What the model does with bytes and characters that the vocabulary lacks.
void read_unknown(const Json& model, const std::string& where, Vocabulary& vocabulary) {
  vocabulary.drops_unknown = true;
  vocabulary.fuses_unknown = is_true(model.member("fuse_unk"));
  const Json& unknown = model.member("unk_token");
  if (!unknown.is_string()) return;
  vocabulary.unknown = vocabulary.find(unknown.text());
  if (vocabulary.unknown < 0) {
    throw InputError(
        fmt::format("{}: model.unk_token is {}, which model.vocab lacks", where, unknown.dump()));
  }
}

void read_merge_list(const Json& merges, const std::string& where, Vocabulary& vocabulary) {
  if (!merges.is_array()) throw InputError(where + " is no list");
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    const std::string place = fmt::format("{}[{}]", where, i);
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

void read_byte_pairs(const Json& model, const std::string& where, Vocabulary& vocabulary) {
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!is_used(model.member(key))) continue;
    throw InputError(fmt::format("{}: model.{} is not supported", where, key));
  }
  const bool bytes = std::ranges::any_of(vocabulary.pre_tokenizer, [](const auto& step) {
    return step.kind == PreTokenizerStep::Kind::byte_level;
  });
  vocabulary.kind = bytes ? Vocabulary::Kind::bytes : Vocabulary::Kind::characters;
  vocabulary.merges_in_rounds = false;
  read_token_ids(model.member("vocab"), where + ": model.vocab", vocabulary);
  read_unknown(model, where, vocabulary);
  vocabulary.ignores_merges = is_true(model.member("ignore_merges"));
  read_merge_list(model.member("merges"), where + ": model.merges", vocabulary);
}

/// [["token", log-probability], ...] by id.
void read_unigram(const Json& model, const std::string& where, Vocabulary& vocabulary) {
  vocabulary.kind = Vocabulary::Kind::unigram;
  const Json& list = model.member("vocab");
  if (!list.is_array() || list.empty()) {
    throw InputError(where + ": model.vocab is no list of tokens");
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Json& entry = list[i];
    const std::string place = fmt::format("{}: model.vocab[{}]", where, i);
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number() ||
        !std::isfinite(entry[1].number())) {
      throw InputError(place + " is no pair of a token and its log-probability");
    }
    add_token(entry[0].text(), static_cast<std::int64_t>(i), place, vocabulary);
    vocabulary.scores.push_back(entry[1].number());
  }
  vocabulary.words = vocabulary.words_end = vocabulary.size;
  const Json& unknown = model.member("unk_id");
  if (unknown.is_null()) return;
  if (!unknown.is_integer_in(0, vocabulary.size - 1)) {
    throw InputError(fmt::format("{}: model.unk_id is {}, but there are {} tokens", where,
                                 unknown.dump(), vocabulary.size));
  }
  vocabulary.unknown = static_cast<std::int32_t>(unknown.integer());
}

void read_model(const Json& model, const std::string& where, Vocabulary& vocabulary) {
  const std::string type = model_type(model);
  vocabulary.byte_fallback = is_true(model.member("byte_fallback"));
  if (type == "BPE") {
    read_byte_pairs(model, where, vocabulary);
  } else if (type == "Unigram") {
    read_unigram(model, where, vocabulary);
  } else {
    throw InputError(fmt::format("{}: a model of type \"{}\" is not supported; BPE and Unigram are",
                                 where, type));
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

}  // namespace

void read_tokenizer_json(const std::string& text, const std::string& where,
                         Vocabulary& vocabulary) {
  const Json file = parse_tokenizer_json(text, where);
  vocabulary.source = where;
  vocabulary.added_as_text = false;
  vocabulary.normalizer = read_normalizer(file.member("normalizer"), where);
  vocabulary.pre_tokenizer = read_pre_tokenizer(file.member("pre_tokenizer"), where);
  vocabulary.decoder = read_decoder(file.member("decoder"), where);
  read_model(file.member("model"), where, vocabulary);
  read_added_tokens(file.member("added_tokens"), where, vocabulary);
  read_post_processor(file.member("post_processor"), where, vocabulary);
}

}  // namespace sluice::launcher
