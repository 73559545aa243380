// Every case of tests/data/chat-templates.json: what transformers makes of templates in the manner
// of the published ones, and of one corner of Jinja after the other.
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <sstream>

#include "launcher/chat/jinja/template.h"
#include "launcher/json/json.h"

namespace sluice::launcher::jinja {
namespace {

Json read_reference() {
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/data/chat-templates.json");
  std::stringstream text;
  text << file.rdbuf();
  return Json::parse(text.str());
}

/// What the template is rendered with, as transformers passes it.
Json variables_of(const Json& reference, const Json& one) {
  Json names = one.at("variables");
  names["messages"] = reference.at("conversations")[one.at("messages").unsigned_integer()];
  names["tools"] = reference.at("tools")[one.at("tools").unsigned_integer()];
  names["documents"] = nullptr;
  names["add_generation_prompt"] = one.at("add_generation_prompt");
  return names;
}

TEST(ChatTemplateReference, EveryCaseRendersAsTransformersRendersIt) {
  const Json reference = read_reference();
  std::size_t rendered = 0;
  std::size_t refused = 0;
  for (const Json& entry : reference.at("templates")) {
    const Template made(entry.at("template").text(), entry.at("name").text());
    std::size_t number = 0;
    for (const Json& one : entry.at("cases")) {
      SCOPED_TRACE(entry.at("name").text() + ", case " + std::to_string(number++));
      const Json variables = variables_of(reference, one);
      const auto now = std::chrono::system_clock::now();
      if (const Json* wanted = one.find("rendered")) {
        EXPECT_EQ(made.render(variables, now), wanted->text());
        ++rendered;
        continue;
      }
      const std::string wanted = one.at("error").text();
      try {
        ADD_FAILURE() << "rendered " << made.render(variables, now) << " instead of: " << wanted;
      } catch (const TemplateError& error) {
        // "template failed: ..." stands for any of Python's type errors.
        const bool is_any = wanted.starts_with("template failed");
        EXPECT_EQ(error.message(), is_any ? error.message() : wanted);
        EXPECT_NE(error.kind(), TemplateError::Kind::unsupported);
        ++refused;
      }
    }
  }
  EXPECT_EQ(rendered, 316U);
  EXPECT_EQ(refused, 44U);
}

}  // namespace
}  // namespace sluice::launcher::jinja
