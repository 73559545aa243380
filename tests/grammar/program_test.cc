#include "grammar/program.h"

#include <gtest/gtest.h>

#include <random>

#include "kernels/device/error.h"
#include "tests/grammar/reading.h"

namespace sluice::grammar {
namespace {

Program sample() {
  Builder builder;
  const Rule list = builder.declare("list");
  builder.define(list, builder.sequence({builder.text("["), builder.optional(builder.call(list)),
                                         builder.text("]")}));
  Program program = builder.compile(list);
  program.end_tokens = {2, 50'000};
  return program;
}

TEST(Program, DecodingGivesWhatWasEncoded) {
  const Program program = sample();
  EXPECT_EQ(decode(encode(program)), program);
  EXPECT_LE(encode(program).size(), kMostProgramBytes);
}

TEST(Program, DamagedBytesAreRefusedOrRunWithinBounds) {
  const std::vector<std::byte> whole = encode(sample());
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_THROW(decode(std::span(whole).first(bytes)), CommError) << bytes;
  }
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> damaged = whole;
    damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    try {
      const Program program = decode(damaged);
      for (std::int32_t state = 0; state < program.states(); ++state) {
        for (const Edge& edge : program.edges_of(state)) ASSERT_LT(edge.target, program.states());
      }
    } catch (const CommError&) {
      continue;
    }
  }
}

}  // namespace
}  // namespace sluice::grammar
