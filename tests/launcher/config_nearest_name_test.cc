#include "launcher/config/nearest_name.h"

#include <gtest/gtest.h>

namespace sluice::launcher {
namespace {

const std::vector<std::string> kKnown = {"policy", "layers", "device", "--model",
                                         "--max-new-tokens"};

TEST(NearestName, FindsWhatWasMeant) {
  EXPECT_EQ(nearest_name("polciy", kKnown), "policy");  // neighbours swapped
  EXPECT_EQ(nearest_name("layer", kKnown), "layers");
  EXPECT_EQ(nearest_name("divice", kKnown), "device");
  EXPECT_EQ(nearest_name("--modle", kKnown), "--model");
  EXPECT_EQ(nearest_name("--max-new", kKnown), "--max-new-tokens");  // its beginning
}

TEST(NearestName, FindsNothingFar) {
  EXPECT_EQ(nearest_name("weights", kKnown), "");
  EXPECT_EQ(nearest_name("", kKnown), "");
  EXPECT_EQ(nearest_name("--m", kKnown), "");  // begins two
  EXPECT_EQ(nearest_name(std::string(100000, 'x'), kKnown), "");
}

TEST(NearestName, MakesTheEndOfASentence) {
  EXPECT_EQ(suggestion("layer", kKnown), "; did you mean 'layers'?");
  EXPECT_EQ(suggestion("weights", kKnown), "");
}

}  // namespace
}  // namespace sluice::launcher
