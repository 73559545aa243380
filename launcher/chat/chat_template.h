// The chat template of a model folder: a conversation to the text that the model was trained on.
// Source: transformers' tokenization_utils_base.py (_from_pretrained, get_chat_template,
// apply_chat_template) and utils/chat_template_utils.py (render_jinja_template).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "launcher/chat/jinja/template.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/tokenizer.h"
#include "offload/checkpoint/gguf_file.h"

namespace sluice::launcher {

/// A conversation, and what its template is told besides.
struct Chat {
  Json messages;                      // a list of objects with a role
  Json tools;                         // null: none are given; an empty list is given
  bool add_generation_prompt = true;  // end with the beginning of the assistant's answer
  Json variables = Json::object();    // further names that templates ask for: enable_thinking
};

/// Immutable after open(): any thread may use it.
class ChatTemplate {
 public:
  /// Looks, in this order, for chat_template.jinja and additional_chat_templates/*.jinja, or else
  /// for chat_template in tokenizer_config.json: a text, or a list of {"name", "template"}. Special
  /// tokens (bos_token and so on) are tokenizer_config.json's, special_tokens_map.json's, or else
  /// the tokenizer's own. Of a GGUF file: tokenizer.chat_template in its metadata. Never throws: a
  /// folder without a template, or with one that is wrong, still answers prompts. render() says
  /// what is wrong.
  static ChatTemplate open(const std::filesystem::path& model_folder, const Tokenizer& tokenizer);
  /// The template of one file, with the special tokens of a model folder. Throws InputError.
  static ChatTemplate open_file(const std::filesystem::path& file,
                                const std::filesystem::path& model_folder,
                                const Tokenizer& tokenizer);
  /// One template without a folder. Throws jinja::TemplateError.
  ChatTemplate(std::string_view source, std::string name, Json special_tokens);

  /// Throws InputError, with the sentence that render() would throw, where there is no template.
  void check() const;

  /// The text of `chat`, which holds its special tokens: encode it without adding any. With tools
  /// the template named tool_use is taken where there is one, else the one named default. Throws
  /// InputError: there is no template, it is wrong, it refuses the messages.
  std::string render(const Chat& chat) const;

 private:
  ChatTemplate() = default;
  void read_files(const std::filesystem::path& folder);
  void read_gguf(const offload::GgufFile& file);
  void add(const std::string& name, std::string_view source, const std::string& where);
  const jinja::Template& choose(bool has_tools) const;

  std::map<std::string, jinja::Template> templates_;  // "default", "tool_use"
  Json special_tokens_ = Json::object();              // name to text
  std::string problem_;                               // empty: templates_ can be used
};

/// The conversation of a row: {"messages", "tools", "add_generation_prompt",
/// "chat_template_kwargs"}; null counts as absent. Throws ChatFieldError.
Chat read_chat(const Json& row);

/// A field of a conversation that is not what it must be.
struct ChatFieldError : InputError {
  ChatFieldError(const std::string& sentence, std::string at_fault)
      : InputError(sentence), field(std::move(at_fault)) {}
  std::string field;
};

}  // namespace sluice::launcher
