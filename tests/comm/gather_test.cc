// Values of every kind arrive as they were; bytes of another program are refused by rank.
#include "comm/gather.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "kernels/device/error.h"
#include "tests/comm/run_ranks.h"

namespace sluice::comm {
namespace {

using testing::HasSubstr;

enum class Colour : std::uint8_t { red = 3, blue = 7 };

struct Inner {
  std::string name;
  std::array<std::int32_t, 3> counts = {};
  static auto fields(auto& self) { return std::tie(self.name, self.counts); }
  bool operator==(const Inner&) const = default;
};

struct Outer {
  double share = 0;
  Colour colour = Colour::red;
  bool good = false;
  std::vector<Inner> parts;
  std::vector<std::pair<std::string, std::uint64_t>> table;
  static auto fields(auto& self) {
    return std::tie(self.share, self.colour, self.good, self.parts, self.table);
  }
  bool operator==(const Outer&) const = default;
};

/// Distinct on each rank, and not of one length.
Outer value_of(int rank) {
  Outer value{1.0 / 3 + rank, rank % 2 == 0 ? Colour::blue : Colour::red, rank == 1, {}, {}};
  for (int i = 0; i < rank; ++i) {
    value.parts.push_back(
        {std::string(static_cast<std::size_t>(i), 'x') + '\0' + "\n", {i, -1, 7}});
  }
  value.table = {{"most", std::numeric_limits<std::uint64_t>::max()}, {"", 0}};
  return value;
}

TEST(Gather, EveryRankGetsEveryValueAsItWas) {
  run_local_ranks(3, [](World& world) {
    const std::vector<Outer> all = gather(world, value_of(world.rank()));
    ASSERT_EQ(all.size(), 3U);
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(all[static_cast<std::size_t>(rank)], value_of(rank));
    }
    EXPECT_EQ(gather(world, world.rank() * 10), (std::vector<int>{0, 10, 20}));
  });
}

TEST(Gather, OfABroadcastTheFirstRanksValueCounts) {
  run_local_ranks(3, [](World& world) {
    EXPECT_EQ(broadcast(world, value_of(world.rank() + 2)), value_of(2));
    EXPECT_EQ(broadcast(world, world.rank() == 0), true);
  });
}

std::string refusal_of(const std::string& bytes) {
  try {
    wire::from_bytes<Outer>(bytes, 2);
  } catch (const CommError& error) {
    return error.what();
  }
  return "(none)";
}

TEST(Gather, NoPartOfAMessageAndNoLongerOneIsRead) {
  const std::string bytes = wire::to_bytes(value_of(2));
  EXPECT_EQ(refusal_of(bytes), "(none)");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(refusal_of(bytes.substr(0, size)),
                HasSubstr("rank 2 sent " + std::to_string(size) + " bytes"));
  }
  EXPECT_THAT(refusal_of(bytes + '\0'), HasSubstr("start the same version of sluice"));
}

TEST(Gather, LengthsThatCannotBeAreNotBelieved) {
  // A vector of 2^61 elements, where the shape is right.
  std::string bytes = wire::to_bytes(std::vector<double>{1, 2});
  bytes[8 + 7] = 0x20;
  EXPECT_THROW(wire::from_bytes<std::vector<double>>(bytes, 0), CommError);
}

struct Wider {
  std::string name;
  std::array<std::int64_t, 3> counts = {};
  static auto fields(auto& self) { return std::tie(self.name, self.counts); }
};

TEST(Gather, AnotherTypeIsRefusedByRank) {
  run_local_ranks(2, [](World& world) {
    std::string sentence;
    try {
      if (world.rank() == 0) {
        gather(world, Inner{});
      } else {
        gather(world, Wider{});
      }
    } catch (const CommError& error) {
      sentence = error.what();
    }
    EXPECT_THAT(sentence, HasSubstr(world.rank() == 0 ? "rank 1 sent" : "rank 0 sent"));
  });
  // Of one length, but not of one meaning.
  EXPECT_THROW(wire::from_bytes<std::uint32_t>(wire::to_bytes(std::int32_t{1}), 0), CommError);
  EXPECT_THROW(wire::from_bytes<float>(wire::to_bytes(std::int32_t{1}), 0), CommError);
  EXPECT_THROW(wire::from_bytes<std::vector<char>>(wire::to_bytes(std::string("a")), 0), CommError);
}

}  // namespace
}  // namespace sluice::comm
