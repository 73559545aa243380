#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/comm/run_ranks.h"
#include "tests/comm/world_laws.h"

namespace sluice::comm {
namespace {

using testing::HasSubstr;

class LocalWorlds : public testing::TestWithParam<std::tuple<int, Law>> {};

TEST_P(LocalWorlds, KeepTheLaw) {
  const auto& [size, law] = GetParam();
  run_local_ranks(size, [check = law.check](World& world) {
    try {
      check(world);
    } catch (const std::runtime_error& error) {
      world.fail(ExitStatus::failure, error.what());  // so that no other rank waits for this one
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Of, LocalWorlds,
                         testing::Combine(testing::Values(1, 2, 3, 4),
                                          testing::ValuesIn(world_laws().begin(),
                                                            world_laws().end())),
                         [](const auto& parameters) {
                           return std::string(std::get<1>(parameters.param).name) + "_" +
                                  std::to_string(std::get<0>(parameters.param)) + "_ranks";
                         });

/// The sentence of the CommError that `call` throws; empty if it throws none.
std::string comm_error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const CommError& error) {
    return error.what();
  }
  return "";
}

TEST(LocalWorld, NeedsARank) {
  EXPECT_THROW(make_local_worlds(0), ConfigError);
  EXPECT_THROW(make_local_worlds(-1), ConfigError);
}

TEST(LocalWorld, AMessageLongerThanItsReceiveEndsTheJob) {
  const auto worlds = make_local_worlds(2);
  std::array<std::byte, 10> room = {};
  const std::array<std::byte, 11> message = {};

  const Transfer receive = worlds[1]->receive(Route::hidden, 0, room);
  const Transfer send = worlds[0]->send(Route::hidden, 1, message);

  const std::string expected =
      "rank 1: A message of 11 bytes came from rank 0 on route hidden, but the receive has room "
      "for "
      "10";
  EXPECT_THAT(comm_error_of([&] { worlds[0]->wait(send); }), HasSubstr(expected));
  EXPECT_THAT(comm_error_of([&] { worlds[1]->wait(receive); }), HasSubstr(expected));
}

TEST(LocalWorld, FailThrowsInItsCallerWithTheStatus) {
  const auto worlds = make_local_worlds(2);
  try {
    worlds[1]->fail(ExitStatus::no_space, "the host tier is full");
    FAIL() << "fail() returned";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), ExitStatus::no_space);
    EXPECT_STREQ(error.what(), "the host tier is full");
  }
}

TEST(LocalWorld, AfterAFailureEveryCallOfEveryRankThrowsTheFirstCause) {
  const auto worlds = make_local_worlds(3);
  std::array<std::byte, 1> room = {};
  const Transfer receive = worlds[0]->receive(Route::hidden, 1, room);
  EXPECT_THROW(worlds[1]->fail(ExitStatus::failure, "the disk is gone"), Error);
  EXPECT_THROW(worlds[2]->fail(ExitStatus::failure, "so am I"), Error);

  for (const std::function<void()>& call : std::initializer_list<std::function<void()>>{
           [&] { worlds[0]->wait(receive); },
           [&] { worlds[0]->done(receive, nullptr); },
           [&] { worlds[2]->send(Route::hidden, 0, room); },
           [&] { worlds[2]->receive(Route::hidden, 0, room); },
           [&] { worlds[2]->gather(""); },
           [&] { worlds[2]->broadcast(""); },
           [&] { worlds[1]->send(Route::hidden, 0, room); },
       }) {
    EXPECT_EQ(comm_error_of(call), "rank 1: the disk is gone");
  }
}

TEST(LocalWorld, AFailureWakesRanksThatWait) {
  std::array<std::string, 3> heard;
  run_local_ranks(3, [&](World& world) {
    std::array<std::byte, 1> room = {};
    std::string& sentence = heard[static_cast<std::size_t>(world.rank())];
    if (world.rank() == 0) {
      sentence = comm_error_of([&] { world.wait(world.receive(Route::hidden, 2, room)); });
    } else if (world.rank() == 1) {
      sentence = comm_error_of([&] { world.gather(""); });
    } else {
      EXPECT_THROW(world.fail(ExitStatus::failure, "the disk is gone"), Error);
    }
  });
  EXPECT_EQ(heard[0], "rank 2: the disk is gone");
  EXPECT_EQ(heard[1], "rank 2: the disk is gone");
}

}  // namespace
}  // namespace sluice::comm
