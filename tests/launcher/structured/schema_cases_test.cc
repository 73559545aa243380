// Random schemas with answers that models gave to them and jsonschema found valid, and with values
// near these that it refused (scripts/compare-schemas --record).
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "launcher/json/json.h"
#include "launcher/structured/structured_answer.h"
#include "tests/launcher/structured/written_texts.h"

namespace sluice::launcher {
namespace {

TEST(SchemaCases, AnswersFitStillAndWhatIsNotValidDoesNot) {
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/data/schema-cases.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const Json cases = Json::parse(text);
  ASSERT_GE(cases.size(), 100U);
  std::size_t others = 0;
  for (const Json& one : cases) {
    grammar::Matcher matcher(schema_program(one.at("schema")));
    for (const Json& valid : one.at("valid")) {
      EXPECT_TRUE(fits(matcher, valid.text())) << one.at("schema").dump() << ' ' << valid.text();
    }
    for (const Json& other : one.at("others")) {
      EXPECT_FALSE(fits(matcher, other.text())) << one.at("schema").dump() << ' ' << other.text();
      ++others;
    }
  }
  EXPECT_GE(others, 100U);
}

}  // namespace
}  // namespace sluice::launcher
