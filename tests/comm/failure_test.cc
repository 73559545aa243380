#include "comm/failure.h"

#include <gtest/gtest.h>

#include <new>

#include "tests/comm/run_ranks.h"

namespace sluice::comm {
namespace {

TEST(Failure, AnErrorKeepsItsStatusAndOthersFail) {
  const Error capacity = as_error(std::make_exception_ptr(CapacityError("full")));
  EXPECT_EQ(capacity.status(), ExitStatus::no_space);
  EXPECT_STREQ(capacity.what(), "full");
  const Error memory = as_error(std::make_exception_ptr(std::bad_alloc()));
  EXPECT_EQ(memory.status(), ExitStatus::no_space);
  EXPECT_STREQ(memory.what(), "the host has no memory left for this process; free some");
  const Error other = as_error(std::make_exception_ptr(std::out_of_range("at")));
  EXPECT_EQ(other.status(), ExitStatus::failure);
  EXPECT_STREQ(other.what(), "at");
  EXPECT_EQ(as_error(std::make_exception_ptr(7)).status(), ExitStatus::failure);
}

TEST(Failure, EveryRankOfTheWorldLearnsTheCause) {
  const auto worlds = make_local_worlds(2);
  fail_world(*worlds[1], std::make_exception_ptr(InputError("the file is damaged")));
  for (const auto& world : worlds) {
    try {
      world->gather("");
      FAIL() << "rank " << world->rank() << " goes on";
    } catch (const CommError& error) {
      EXPECT_STREQ(error.what(), "rank 1: the file is damaged");
    }
  }
}

}  // namespace
}  // namespace sluice::comm
