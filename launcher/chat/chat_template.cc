#include "launcher/chat/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxSettingsBytes = std::uint64_t{256} << 20;
constexpr std::uint64_t kMaxTemplateBytes = std::uint64_t{4} << 20;
constexpr const char* kDefault = "default";
constexpr const char* kToolUse = "tool_use";

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

/// Null where the file is absent.
Json read_settings_object(const fs::path& path) {
  if (!is_there(path)) return nullptr;
  try {
    Json object = Json::parse(offload::read_text_file(path, kMaxSettingsBytes));
    if (object.is_object()) return object;
  } catch (const JsonError& problem) {
    throw InputError(fmt::format("{}: {}", path.string(), problem.what()));
  }
  throw InputError(path.string() + " is no JSON object");
}

/// "text", or {"content": "text", ...}; nothing for anything else.
std::optional<std::string> text_of_token(const Json& token) {
  if (token.is_string()) return token.text();
  const Json& content = token.member("content");
  return content.is_string() ? std::optional(content.text()) : std::nullopt;
}

/// Adds the special tokens that `settings` names and `tokens` lacks. Null hides the token of a
/// later file, as it does in transformers.
void add_special_tokens(const Json& settings, Json& tokens) {
  constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};
  for (const char* name : kNames) {
    if (tokens.contains(name) || !settings.contains(name)) continue;
    const std::optional<std::string> text = text_of_token(settings.member(name));
    tokens[name] = text ? Json(*text) : Json();
  }
  for (const char* name : {"additional_special_tokens", "extra_special_tokens"}) {
    const Json& more = settings.member(name);
    if (more.is_array() && !tokens.contains(name)) {
      Json texts = Json::array();
      for (const Json& token : more) {
        if (const auto text = text_of_token(token)) texts.push_back(*text);
      }
      tokens[name] = std::move(texts);
    }
    for (const auto& [key, token] : more.items()) {  // names of the model's own: image_token
      const auto text = text_of_token(token);
      if (text && !tokens.contains(key)) tokens[key] = *text;
    }
  }
}

Json special_tokens_of(const fs::path& folder, const Tokenizer& tokenizer) {
  Json tokens = Json::object();
  add_special_tokens(read_settings_object(folder / "tokenizer_config.json"), tokens);
  add_special_tokens(read_settings_object(folder / "special_tokens_map.json"), tokens);
  const auto fill = [&](const char* name, std::int32_t id) {
    if (tokens.contains(name) || id < 0 || id >= tokenizer.table_size()) return;
    tokens[name] = tokenizer.token_bytes(id);
  };
  fill("bos_token", tokenizer.bos());
  fill("eos_token", tokenizer.eos());
  fill("pad_token", tokenizer.pad());
  Json there = Json::object();  // one that is null has no variable
  for (const auto& [name, text] : tokens.items()) {
    if (!text.is_null()) there[name] = text;
  }
  return there;
}

[[noreturn]] void refuse(const char* field, const Json& value, const char* wanted) {
  std::string shown = value.dump(-1, true);
  if (shown.size() > 60) shown = shown.substr(0, 60) + "...";
  throw ChatFieldError(fmt::format("{} is {}; it must be {}", field, shown, wanted), field);
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string name, Json special_tokens)
    : special_tokens_(std::move(special_tokens)) {
  templates_.emplace(kDefault, jinja::Template(source, std::move(name)));
}

ChatTemplate ChatTemplate::open(const fs::path& model_folder, const Tokenizer& tokenizer) {
  ChatTemplate found;
  try {
    found.read_files(model_folder);
    found.special_tokens_ = special_tokens_of(model_folder, tokenizer);
    if (found.templates_.empty()) {
      found.problem_ = fmt::format(
          "{} has no chat template, as base models have none; give prompts instead of messages, "
          "or put the template of the model's family into its file chat_template.jinja",
          model_folder.string());
    }
  } catch (const Error& problem) {
    found.problem_ = problem.what();
  }
  return found;
}

ChatTemplate ChatTemplate::open_file(const fs::path& file, const fs::path& model_folder,
                                     const Tokenizer& tokenizer) {
  ChatTemplate found;
  found.add(kDefault, offload::read_text_file(file, kMaxTemplateBytes), file.string());
  found.special_tokens_ = special_tokens_of(model_folder, tokenizer);
  return found;
}

/// Files win over the key, all of them over all of it.
void ChatTemplate::read_files(const fs::path& folder) {
  if (offload::is_gguf(folder)) return read_gguf(offload::GgufFile(folder));
  const fs::path file = folder / "chat_template.jinja";
  const fs::path more = folder / "additional_chat_templates" / (std::string(kToolUse) + ".jinja");
  bool any = false;
  for (const auto& [name, path] : {std::pair(kDefault, file), std::pair(kToolUse, more)}) {
    if (!is_there(path)) continue;
    add(name, offload::read_text_file(path, kMaxTemplateBytes), path.string());
    any = true;
  }
  if (any) return;
  const fs::path settings_path = folder / "tokenizer_config.json";
  const Json settings = read_settings_object(settings_path);
  const Json& key = settings.member("chat_template");
  const std::string where = settings_path.string() + ": chat_template";
  if (key.is_null()) return;
  if (key.is_string()) return add(kDefault, key.text(), where);
  if (!key.is_array()) throw InputError(where + " is neither a text nor a list of named templates");
  for (const Json& entry : key) {
    const Json& name = entry.member("name");
    const Json& source = entry.member("template");
    if (!name.is_string() || !source.is_string()) {
      throw InputError(where + " has an entry without \"name\" and \"template\"");
    }
    add(name.text(), source.text(), fmt::format("{} \"{}\"", where, name.text()));
  }
}

void ChatTemplate::read_gguf(const offload::GgufFile& file) {
  for (const auto& [name, key] : {std::pair(kDefault, "tokenizer.chat_template"),
                                  std::pair(kToolUse, "tokenizer.chat_template.tool_use")}) {
    const std::optional<std::string_view> source = file.text(key);
    if (!source) continue;
    if (source->size() > kMaxTemplateBytes) file.fail(key, "is larger than any template");
    add(name, *source, fmt::format("{}: {}", file.name(), key));
  }
}

/// Templates with other names are for callers who ask for them.
void ChatTemplate::add(const std::string& name, std::string_view source, const std::string& where) {
  if (name != kDefault && name != kToolUse) return;
  templates_.insert_or_assign(name, jinja::Template(source, where));
}

void ChatTemplate::check() const {
  if (!problem_.empty()) throw InputError(problem_);
}

const jinja::Template& ChatTemplate::choose(bool has_tools) const {
  check();
  if (const auto found = templates_.find(kToolUse); has_tools && found != templates_.end()) {
    return found->second;
  }
  const auto found = templates_.find(kDefault);
  if (found != templates_.end()) return found->second;
  throw InputError(
      "the model's chat template is for conversations with tools; give the row tools, or the "
      "folder a file chat_template.jinja");
}

std::string ChatTemplate::render(const Chat& chat) const {
  const jinja::Template& chosen = choose(!chat.tools.is_null());
  Json::Object names = special_tokens_.items();
  const auto set = [&](const std::string& name, const Json& value) {
    const auto known = std::ranges::find(names, name, &Json::Member::first);
    if (known != names.end()) {
      known->second = value;
    } else {
      names.emplace_back(name, value);
    }
  };
  for (const auto& [name, value] : chat.variables.items()) set(name, value);
  set("messages", chat.messages);
  set("tools", chat.tools);
  set("documents", chat.variables.member("documents"));
  set("add_generation_prompt", chat.add_generation_prompt);
  try {
    return chosen.render(Json(std::move(names)), std::chrono::system_clock::now());
  } catch (const jinja::TemplateError& problem) {
    if (problem.kind() == jinja::TemplateError::Kind::raised) {
      throw InputError("the model's chat template refuses the messages: " + problem.message());
    }
    throw InputError(
        fmt::format("the chat template gives no text for the messages: {}", problem.what()));
  }
}

Chat read_chat(const Json& row) {
  Chat chat;
  const Json& messages = row.member("messages");
  if (messages.is_null()) throw ChatFieldError("the row has no messages", "messages");
  if (!messages.is_array()) refuse("messages", messages, "a list of objects with role and content");
  if (messages.empty()) throw ChatFieldError("messages is empty; give one at least", "messages");
  for (const Json& message : messages) {
    if (!message.is_object() || !message.member("role").is_string()) {
      refuse("messages", message, "a list of objects, each with a text as its role");
    }
  }
  chat.messages = messages;
  chat.tools = row.member("tools");
  if (!chat.tools.is_null() && !chat.tools.is_array()) {
    refuse("tools", chat.tools, "a list of tools as JSON schemas");
  }
  const Json& prompt = row.member("add_generation_prompt");
  if (!prompt.is_null() && !prompt.is_boolean()) {
    refuse("add_generation_prompt", prompt, "true or false");
  }
  if (prompt.is_boolean()) chat.add_generation_prompt = prompt.boolean();
  const Json& variables = row.member("chat_template_kwargs");
  if (variables.is_null()) return chat;
  if (!variables.is_object()) {
    refuse("chat_template_kwargs", variables, "an object of names and values");
  }
  for (const char* own : {"messages", "tools", "add_generation_prompt"}) {
    if (variables.contains(own)) {
      throw ChatFieldError(
          fmt::format("chat_template_kwargs has {}, which is a field of the row itself", own),
          "chat_template_kwargs");
    }
  }
  chat.variables = variables;
  return chat;
}

}  // namespace sluice::launcher
