#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/world.h"
#include "tests/comm/run_ranks.h"

namespace sluice::comm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// What `body` threw on each rank; status `done` where it threw nothing.
struct Thrown {
  ExitStatus status = ExitStatus::done;
  std::string sentence;
};

std::vector<Thrown> thrown_by_ranks(int size, const std::function<void(World&)>& body) {
  std::vector<Thrown> thrown(static_cast<std::size_t>(size));
  run_local_ranks(size, [&](World& world) {
    try {
      body(world);
    } catch (const Error& error) {
      thrown[static_cast<std::size_t>(world.rank())] = {error.status(), error.what()};
    }
  });
  return thrown;
}

TEST(Handshake, PassesWhereAllRanksHaveTheSameFacts) {
  for (int size = 1; size <= 4; ++size) {
    for (const Thrown& thrown : thrown_by_ranks(size, [](World& world) {
           handshake(world, {{"version", "0.1.0"}, {"model", "a: b = c\nd"}});
         })) {
      EXPECT_EQ(thrown.status, ExitStatus::done) << thrown.sentence;
    }
  }
}

TEST(Handshake, EveryRankGetsTheTableOfWhoDiffersInWhat) {
  const auto all = thrown_by_ranks(3, [](World& world) {
    handshake(world, {{"version", "0.1.0"}, {"dtype", world.rank() == 1 ? "f32" : "f16"}});
  });

  const std::string host = make_local_worlds(1)[0]->hosts()[0].name;
  for (const Thrown& thrown : all) {
    EXPECT_EQ(thrown.status, ExitStatus::usage);
    EXPECT_THAT(thrown.sentence, AllOf(HasSubstr("dtype: f16 on rank 0 (" + host + "), rank 2 (" +
                                                 host + "); f32 on rank 1 (" + host + ")"),
                                       Not(HasSubstr("version"))));
    EXPECT_EQ(thrown.sentence, all.front().sentence);
  }
}

TEST(Handshake, AFactThatARankLacksIsADifference) {
  for (const Thrown& thrown : thrown_by_ranks(2, [](World& world) {
         std::vector<std::pair<std::string, std::string>> facts{{"version", "0.1.0"}};
         if (world.rank() == 1) facts.emplace_back("seed", "7");
         handshake(world, facts);
       })) {
    EXPECT_EQ(thrown.status, ExitStatus::usage);
    EXPECT_THAT(thrown.sentence, HasSubstr("seed: (nothing) on rank 0"));
  }
}

TEST(Agree, NoProblemThrowsNothing) {
  for (const Thrown& thrown : thrown_by_ranks(4, [](World& world) { agree(world, nullptr); })) {
    EXPECT_EQ(thrown.status, ExitStatus::done);
  }
}

TEST(Agree, EveryRankThrowsTheLowestRanksProblemAndKnowsWhoseItIs) {
  for (const Thrown& thrown : thrown_by_ranks(4, [](World& world) {
         const CapacityError full("the host tier is 5 bytes too small");
         const InputError damaged("config.json is damaged");
         const Error* problem = world.rank() == 2   ? static_cast<const Error*>(&full)
                                : world.rank() == 3 ? &damaged
                                                    : nullptr;
         agree(world, problem);
       })) {
    EXPECT_EQ(thrown.status, ExitStatus::no_space);
    EXPECT_EQ(thrown.sentence, "rank 2: the host tier is 5 bytes too small");
  }
}

TEST(Agree, AProblemThatAllRanksHaveIsNobodysInParticular) {
  for (const Thrown& thrown : thrown_by_ranks(3, [](World& world) {
         const InputError missing("config.json is missing");
         agree(world, &missing);
       })) {
    EXPECT_EQ(thrown.status, ExitStatus::bad_input);
    EXPECT_EQ(thrown.sentence, "config.json is missing");
  }
}

TEST(Agree, ThrowsTheTypeThatBelongsToTheStatus) {
  const auto worlds = make_local_worlds(1);
  const ConfigError config("c");
  const InputError input("i");
  const CapacityError capacity("p");
  const CommError comm("m");
  const IoError io("o");

  EXPECT_THROW(agree(*worlds[0], &config), ConfigError);
  EXPECT_THROW(agree(*worlds[0], &input), InputError);
  EXPECT_THROW(agree(*worlds[0], &capacity), CapacityError);
  EXPECT_THROW(agree(*worlds[0], &comm), CommError);
  EXPECT_THROW(agree(*worlds[0], &io), Error);
}

/// Answers a gather with what a rank of another program might have sent.
class ForeignWorld final : public World {
 public:
  explicit ForeignWorld(std::string answer) : answer_(std::move(answer)) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int ranks_on_host() const override { return 1; }
  int local_rank() const override { return 0; }
  const std::vector<Host>& hosts() const override { return hosts_; }
  Transfer send(Route, int, std::span<const std::byte>) override { return {}; }
  Transfer receive(Route, int, std::span<std::byte>) override { return {}; }
  bool done(Transfer, std::size_t*) override { return true; }
  std::size_t wait(Transfer) override { return 0; }
  void ring_for(Route, Bell*) override {}
  void throw_if_failed() const override {}
  std::vector<std::string> gather(const std::string&) override { return {answer_}; }
  std::string broadcast(const std::string&) override { return answer_; }
  void step(const char*, std::int64_t, std::int64_t) override {}
  [[noreturn]] void fail(ExitStatus status, const std::string& sentence) override {
    throw Error(status, sentence);
  }

 private:
  std::string answer_;
  std::vector<Host> hosts_{{"here", 1}};
};

TEST(Handshake, AnAnswerOfAnotherProgramIsRefused) {
  for (const char* answer : {"x", "5:ab", "1:a", "99999999999999999999:a", "1:a3:bc", ":", "-1:a",
                             "18446744073709551615:a"}) {
    ForeignWorld world(answer);
    EXPECT_THROW(handshake(world, {}), CommError) << answer;
  }
}

}  // namespace
}  // namespace sluice::comm
