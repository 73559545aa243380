#include <fmt/format.h>

#include "kernels/device/error.h"
#include "launcher/tokenizer/component_json.h"

namespace sluice::launcher {
namespace {

/// TemplateProcessing: the tokens on either side of the text.
void read_template(const ComponentReader& step, Vocabulary& vocabulary) {
  bool has_text = false;
  for (const Json& piece : step.member("single")) {
    if (piece.member("Sequence").member("id") == Json("A") && !has_text) {
      has_text = true;
      continue;
    }
    const Json& name = piece.member("SpecialToken").member("id");
    if (!name.is_string()) step.refuse("such a template");
    const Json& entry = step.member("special_tokens").member(name.text());
    const Json own = Json::array({vocabulary.find(name.text())});
    for (const Json& id : entry.member("ids").is_array() ? entry.member("ids") : own) {
      if (!id.is_integer_in(0, vocabulary.size - 1)) {
        throw InputError(
            fmt::format("{}: \"{}\" is no token of the vocabulary", step.where(), name.text()));
      }
      (has_text ? vocabulary.suffix : vocabulary.prefix)
          .push_back(static_cast<std::int32_t>(id.integer()));
    }
  }
  if (!has_text) step.refuse("a template without the text");
}

/// RobertaProcessing and BertProcessing: cls in front, sep behind, each ["token", id].
void read_surrounding(const ComponentReader& step, Vocabulary& vocabulary) {
  const auto read = [&](const char* key, std::vector<std::int32_t>& ids) {
    const Json& token = step.member(key);
    if (!token.is_array() || token.size() != 2 || !token[1].is_integer_in(0, vocabulary.size - 1)) {
      throw InputError(fmt::format("{}.{} is no token of the vocabulary", step.where(), key));
    }
    ids.push_back(static_cast<std::int32_t>(token[1].integer()));
  };
  read("cls", vocabulary.prefix);
  read("sep", vocabulary.suffix);
}

}  // namespace

void read_post_processor(const Json& component, const std::string& where, Vocabulary& vocabulary) {
  bool adds = false;  // a second step would take what the first has added for texts
  for (const ComponentReader& step :
       steps_of(component, "processors", where + ": post_processor")) {
    if (step.type() == "ByteLevel") continue;  // concerns places in the text, not ids
    if (adds) step.refuse("a second step that adds tokens");
    adds = true;
    if (step.type() == "TemplateProcessing") {
      read_template(step, vocabulary);
    } else if (step.type() == "RobertaProcessing" || step.type() == "BertProcessing") {
      read_surrounding(step, vocabulary);
    } else {
      step.refuse_type();
    }
  }
}

}  // namespace sluice::launcher
