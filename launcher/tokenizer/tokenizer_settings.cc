// The files beside a tokenizer: tokenizer_config.json, special_tokens_map.json, added_tokens.json,
// and what config.json says of tokens. They may add tokens to the tokenizer's own, name BOS, EOS,
// PAD and UNK, and say what stands around a text.
// Source: transformers' tokenization_utils_base.py (_from_pretrained) and
// tokenization_utils_tokenizers.py (TokenizersBackend).
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "kernels/device/error.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

/// Null where the file is absent.
Json read_object(const std::filesystem::path& path) {
  if (!has_file(path.parent_path(), path.filename().c_str())) return nullptr;
  Json object = parse_tokenizer_json(read_tokenizer_file(path), path.string());
  if (!object.is_object()) throw InputError(path.string() + " is no JSON object");
  return object;
}

bool flag(const Json& object, const char* key, bool otherwise, const std::string& where) {
  const Json& value = object.member(key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) {
    throw InputError(
        fmt::format("{}: {} is {}, but must be true or false", where, key, value.dump()));
  }
  return value.boolean();
}

/// "text", or {"content": "text", "lstrip": false, ...}. Special unless it says otherwise.
AddedToken token_of(const Json& token, const std::string& where) {
  AddedToken added;
  if (token.is_string()) {
    added.text = token.text();
    return added;
  }
  const Json& content = token.member("content");
  if (!content.is_string()) {
    throw InputError(fmt::format("{} is {}, which is no token", where, token.dump()));
  }
  added.text = content.text();
  added.special = flag(token, "special", true, where);
  added.single_word = flag(token, "single_word", false, where);
  added.lstrip = flag(token, "lstrip", false, where);
  added.rstrip = flag(token, "rstrip", false, where);
  added.normalized = flag(token, "normalized", !added.special, where);
  return added;
}

/// Makes the token special, and adds it if it is no added token yet. An added token keeps the
/// fields that it has.
std::int32_t name_token(AddedToken token, const std::string& where, Vocabulary& vocabulary) {
  const auto known = vocabulary.added_places.find(token.text);
  if (known != vocabulary.added_places.end()) {
    vocabulary.added[known->second].special = true;
    return vocabulary.added[known->second].id;
  }
  token.special = true;
  if (vocabulary.find(token.text) < 0) token.id = next_added_id(vocabulary);
  add_added_token(token, where, vocabulary);
  return vocabulary.find(token.text);
}

/// bos_token, eos_token, pad_token, unk_token: the first file that names one wins.
void read_names(const Json& object, const std::string& where, bool newer, Vocabulary& vocabulary) {
  if (!object.is_object()) return;
  const auto read = [&](const char* key, std::int32_t& id) {
    if (object.member(key).is_null()) return;
    const std::string place = fmt::format("{}: {}", where, key);
    const AddedToken token = token_of(object.member(key), place);
    if (id < 0) id = name_token(token, place, vocabulary);
  };
  std::int32_t unknown = -1;  // of bytes only in the older files: tokenizer.json has its own
  read("bos_token", vocabulary.bos);
  read("eos_token", vocabulary.eos);
  read("pad_token", vocabulary.pad);
  read("unk_token", newer ? unknown : vocabulary.unknown);
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const Json& more = object.member(key);
    const std::string place = fmt::format("{}: {}", where, key);
    for (const Json& token : more) name_token(token_of(token, place), place, vocabulary);
    if (!more.is_object()) continue;  // older releases gave each a name
    for (const auto& [name, token] : more.items()) {
      name_token(token_of(token, place), place, vocabulary);
    }
  }
}

/// tokenizer_config.json's {"50264": {"content": "<mask>", "special": true, ...}}.
void read_decoder(const Json& config, const std::string& where, bool newer,
                  Vocabulary& vocabulary) {
  const Json& table = config.member("added_tokens_decoder");
  if (!table.is_object()) return;
  std::map<std::int64_t, AddedToken> tokens;  // Hugging Face adds them by id
  for (const auto& [key, token] : table.items()) {
    const std::string place = fmt::format("{}: added_tokens_decoder.{}", where, key);
    if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos) {
      throw InputError(place + " is no token id");
    }
    AddedToken& added = tokens[std::stoll(key)];
    added = token_of(token, place);
    added.special = token.is_object() && flag(token, "special", false, place);
  }
  for (auto& [id, token] : tokens) {
    token.id = static_cast<std::int32_t>(id);
    if (newer) token.id = vocabulary.find(token.text) < 0 ? next_added_id(vocabulary) : -1;
    add_added_token(token, fmt::format("{}: added_tokens_decoder.{}", where, id), vocabulary);
  }
}

/// added_tokens.json's {"<mask>": 50264}. Beside tokenizer.json this file is a leftover: it may
/// only add the token that comes next.
void read_added(const Json& object, const std::string& where, bool newer, Vocabulary& vocabulary) {
  if (!object.is_object()) return;
  for (const auto& [text, id] : object.items()) {
    if (!id.is_integer_in(0, INT32_MAX)) {
      throw InputError(fmt::format("{} gives \"{}\" the id {}, which is no integer of 0 or more",
                                   where, text, id.dump()));
    }
    AddedToken token;
    token.text = text;
    token.id = static_cast<std::int32_t>(id.integer());
    token.special = false;
    if (newer && (token.id != next_added_id(vocabulary) || vocabulary.find(text) >= 0)) continue;
    add_added_token(token, where, vocabulary);
  }
}

std::optional<std::int32_t> small_integer(const Json& object, const char* key) {
  const Json& value = object.member(key);
  if (!value.is_integer_in(0, INT32_MAX)) return {};
  return static_cast<std::int32_t>(value.integer());
}

/// BOS, EOS and PAD that no file names are the ids in config.json, or else OPT's tokens. Without
/// tokenizer.json, which lists its special tokens, this makes them special.
void fill_names(const Json& config, bool newer, Vocabulary& vocabulary) {
  const auto fill = [&](const char* key, const char* opt_text, std::int32_t& id) {
    if (id >= 0) return;
    const std::int32_t wanted = small_integer(config, key).value_or(vocabulary.find(opt_text));
    const auto found = std::find_if(vocabulary.ids.begin(), vocabulary.ids.end(),
                                    [&](const auto& token) { return token.second == wanted; });
    if (found == vocabulary.ids.end()) return;
    id = wanted;
    if (!newer) name_token(token_of(Json(found->first), key), key, vocabulary);
  };
  fill("bos_token_id", "</s>", vocabulary.bos);
  fill("eos_token_id", "</s>", vocabulary.eos);
  fill("pad_token_id", "<pad>", vocabulary.pad);
}

/// BOS and EOS around a text. tokenizer.json's post-processor counts over these settings, as in
/// transformers 5. Without tokenizer.json BOS stands in front for OPT and SentencePiece's families,
/// but not for those that share GPT-2's files.
void read_surroundings(const Json& settings, const Json& config, const std::string& where,
                       Vocabulary& vocabulary) {
  const Json& family = config.member("model_type");
  const bool has_bos = family.is_null() || family == Json("opt") ||
                       vocabulary.kind == Vocabulary::Kind::sentence_piece;
  const bool bos = flag(settings, "add_bos_token", has_bos, where);
  const bool eos = settings.is_object() && flag(settings, "add_eos_token", false, where);
  const auto put = [&](std::vector<std::int32_t>& ids, bool wanted, std::int32_t id,
                       const char* name) {
    ids.clear();
    if (!wanted) return;
    if (id < 0) {
      throw InputError(fmt::format("{} has no {} token; name one in it ({}_token)", where,
                                   name == std::string_view("bos") ? "BOS" : "EOS", name));
    }
    ids.push_back(id);
  };
  put(vocabulary.prefix, bos, vocabulary.bos, "bos");
  put(vocabulary.suffix, eos, vocabulary.eos, "eos");
}

/// Whether texts get a blank in front. tokenizer_config.json decides without tokenizer.json, and
/// for the class GPT2Tokenizer. Otherwise tokenizer.json decides.
void read_prefix_space(const Json& settings, const std::string& where, bool newer,
                       Vocabulary& vocabulary) {
  const Json& name = settings.member("tokenizer_class");
  const bool is_gpt2 = name.is_string() && name.text().starts_with("GPT2Tokenizer");
  for (PreTokenizerStep& step : vocabulary.pre_tokenizer) {
    if (step.kind != PreTokenizerStep::Kind::byte_level) continue;
    const bool said = flag(settings, "add_prefix_space", step.prefix_space, where);
    if (!newer || is_gpt2) step.prefix_space = said;
  }
}

/// Tokens of the vocabulary, and those around every text, must have rows in the embedding. Other
/// added tokens need none: Tokenizer::encode refuses a text that has one without a row.
void check_table(const std::filesystem::path& folder, const Vocabulary& vocabulary) {
  std::int32_t end = vocabulary.words_end;
  for (const std::int32_t id : vocabulary.prefix) end = std::max(end, id + 1);
  for (const std::int32_t id : vocabulary.suffix) end = std::max(end, id + 1);
  if (vocabulary.table_size >= end) return;
  throw InputError(
      fmt::format("{} has token ids up to {}, but its config.json says vocab_size {}; "
                  "the tokenizer belongs to another model",
                  folder.string(), end - 1, vocabulary.table_size));
}

}  // namespace

void read_settings(const std::filesystem::path& folder, bool newer, Vocabulary& vocabulary) {
  const std::string settings_path = (folder / "tokenizer_config.json").string();
  const std::string names_path = (folder / "special_tokens_map.json").string();
  const std::string added_path = (folder / "added_tokens.json").string();
  const Json settings = read_object(settings_path);
  read_added(read_object(added_path), added_path, newer, vocabulary);
  if (settings.is_object()) {
    if (flag(settings, "split_special_tokens", false, settings_path)) {
      throw InputError(settings_path + " sets split_special_tokens, which is not supported");
    }
    read_prefix_space(settings, settings_path, newer, vocabulary);
    read_decoder(settings, settings_path, newer, vocabulary);
  }
  read_names(settings, settings_path, newer, vocabulary);
  read_names(read_object(names_path), names_path, newer, vocabulary);
  const Json config = read_object(folder / "config.json");
  if (vocabulary.bos < 0 && !vocabulary.prefix.empty()) vocabulary.bos = vocabulary.prefix.front();
  fill_names(config, newer, vocabulary);
  if (!newer) read_surroundings(settings, config, settings_path, vocabulary);
  vocabulary.table_size = small_integer(config, "vocab_size").value_or(vocabulary.size);
  check_table(folder, vocabulary);
}

}  // namespace sluice::launcher
