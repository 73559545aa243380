// Every corner of tests/data/jinja-cases.json, as Jinja itself renders it (make_jinja_cases.py).
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <sstream>

#include "launcher/chat/jinja/template.h"
#include "launcher/json/json.h"

namespace sluice::launcher::jinja {
namespace {

/// Nothing: it is an error.
std::optional<std::string> rendered(const std::string& source, const Json& variables) {
  try {
    return Template(source, "test").render(variables, std::chrono::system_clock::now());
  } catch (const TemplateError& error) {
    EXPECT_FALSE(std::string(error.what()).empty());
    EXPECT_GE(error.line(), 1);
    return {};
  }
}

TEST(JinjaCases, EveryTemplateRendersAsJinjaRendersIt) {
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/data/jinja-cases.json");
  std::stringstream text;
  text << file.rdbuf();
  const Json cases = Json::parse(text.str());
  ASSERT_GT(cases.at("cases").size(), 1000U);
  for (const Json& one : cases.at("cases")) {
    const std::string& source = one.at("template").text();
    const Json* wanted = one.find("rendered");
    EXPECT_EQ(rendered(source, cases.at("variables")),
              wanted != nullptr ? std::optional(wanted->text()) : std::nullopt)
        << source;
  }
}

}  // namespace
}  // namespace sluice::launcher::jinja
