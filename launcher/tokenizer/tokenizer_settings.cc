// tokenizer_config.json, special_tokens_map.json, added_tokens.json and what config.json knows of
// tokens.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "kernels/device/error.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

/// Null where the file is absent.
Json read_object(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return nullptr;
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

void refuse_flag(const Json& object, const char* key, const std::string& where) {
  if (flag(object, key, false, where)) {
    throw InputError(fmt::format("{} sets {}, which this tokenizer does not have", where, key));
  }
}

/// "text", or {"content": "text", "lstrip": false, ...}.
std::string token_text(const Json& token, const std::string& where) {
  if (token.is_string()) return token.text();
  const Json& content = token.member("content");
  if (!content.is_string()) {
    throw InputError(fmt::format("{} is {}, which is no token", where, token.dump()));
  }
  for (const char* key : {"lstrip", "rstrip", "single_word"}) refuse_flag(token, key, where);
  return content.text();
}

/// bos_token, eos_token, pad_token, unk_token: the first file that names one wins.
void read_names(const Json& object, const std::string& where, Vocabulary& vocabulary) {
  if (!object.is_object()) return;
  const auto read = [&](const char* key, std::int32_t& id) {
    const Json& token = object.member(key);
    if (token.is_null()) return;
    const std::string place = fmt::format("{}: {}", where, key);
    const std::string text = token_text(token, place);
    if (id >= 0) return;
    add_added_token(text, -1, true, place, vocabulary);
    id = vocabulary.find(text);
  };
  read("bos_token", vocabulary.bos);
  read("eos_token", vocabulary.eos);
  read("pad_token", vocabulary.pad);
  read("unk_token", vocabulary.unknown);
  const std::string place = where + ": additional_special_tokens";
  for (const Json& token : object.member("additional_special_tokens")) {
    add_added_token(token_text(token, place), -1, true, place, vocabulary);
  }
}

/// tokenizer_config.json's {"50264": {"content": "<mask>", "special": true, ...}}.
void read_decoder(const Json& config, const std::string& where, Vocabulary& vocabulary) {
  for (const auto& [key, token] : config.member("added_tokens_decoder").items()) {
    const std::string place = fmt::format("{}: added_tokens_decoder.{}", where, key);
    if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos) {
      throw InputError(place + " is no token id");
    }
    const std::string text = token_text(token, place);
    const bool special = token.is_object() && flag(token, "special", false, place);
    add_added_token(text, std::stoll(key), special, place, vocabulary);
  }
}

void read_added(const Json& object, const std::string& where, Vocabulary& vocabulary) {
  for (const auto& [text, id] : object.items()) {
    if (!id.is_integer_in(INT64_MIN, INT64_MAX)) {
      throw InputError(
          fmt::format("{} gives \"{}\" the id {}, which is no integer", where, text, id.dump()));
    }
    add_added_token(text, id.integer(), false, where, vocabulary);
  }
}

std::optional<std::int32_t> small_integer(const Json& object, const char* key) {
  const Json& value = object.member(key);
  if (!value.is_integer_in(0, INT32_MAX)) return {};
  return static_cast<std::int32_t>(value.integer());
}

/// Where no file names BOS, EOS and PAD they are the model's own ids, or OPT's tokens.
void fill_names(const Json& config, Vocabulary& vocabulary) {
  const auto fill = [&](const char* key, const char* opt_text, std::int32_t& id) {
    if (id >= 0) return;
    const std::int32_t wanted = small_integer(config, key).value_or(vocabulary.find(opt_text));
    const auto found = std::find_if(vocabulary.ids.begin(), vocabulary.ids.end(),
                                    [&](const auto& token) { return token.second == wanted; });
    if (found == vocabulary.ids.end()) return;
    id = wanted;
    add_added_token(std::string(found->first), -1, true, key, vocabulary);
  };
  fill("bos_token_id", "</s>", vocabulary.bos);
  fill("eos_token_id", "</s>", vocabulary.eos);
  fill("pad_token_id", "<pad>", vocabulary.pad);
}

}  // namespace

void read_settings(const std::filesystem::path& folder, Vocabulary& vocabulary) {
  const std::filesystem::path added_path = folder / "added_tokens.json";
  const std::filesystem::path settings_path = folder / "tokenizer_config.json";
  const std::filesystem::path names_path = folder / "special_tokens_map.json";
  const std::filesystem::path config_path = folder / "config.json";
  read_added(read_object(added_path), added_path.string(), vocabulary);
  const Json settings = read_object(settings_path);
  if (settings.is_object()) {
    refuse_flag(settings, "add_prefix_space", settings_path.string());
    refuse_flag(settings, "add_eos_token", settings_path.string());
    read_decoder(settings, settings_path.string(), vocabulary);
    vocabulary.add_bos =
        flag(settings, "add_bos_token", vocabulary.add_bos, settings_path.string());
  }
  read_names(settings, settings_path.string(), vocabulary);
  read_names(read_object(names_path), names_path.string(), vocabulary);
  const Json config = read_object(config_path);
  fill_names(config, vocabulary);
  vocabulary.table_size = small_integer(config, "vocab_size").value_or(vocabulary.size);
  if (vocabulary.table_size < vocabulary.size) {
    throw InputError(
        fmt::format("{} has token ids up to {}, but its config.json says vocab_size {}; "
                    "the tokenizer belongs to another model",
                    folder.string(), vocabulary.size - 1, vocabulary.table_size));
  }
  if (vocabulary.add_bos && vocabulary.bos < 0) {
    throw InputError(fmt::format(
        "{} has no BOS token; name one in tokenizer_config.json (bos_token)", folder.string()));
  }
}

}  // namespace sluice::launcher
