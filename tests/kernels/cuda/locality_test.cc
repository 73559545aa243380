#include "kernels/cuda/locality.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "tests/support/scratch_folder.h"

namespace sluice::cuda {
namespace {

int count(const std::optional<cpu_set_t>& set) { return set ? CPU_COUNT(&*set) : -1; }

TEST(CudaLocality, AListIsRangesAndNumbers) {
  const auto set = processors_of("0-3,8,10-11");
  ASSERT_EQ(count(set), 7);
  for (const unsigned cpu : {0U, 3U, 8U, 10U, 11U}) EXPECT_TRUE(CPU_ISSET(cpu, &*set)) << cpu;
  EXPECT_FALSE(CPU_ISSET(9, &*set));
  EXPECT_EQ(count(processors_of("5")), 1);
}

TEST(CudaLocality, WhatIsNoListIsNothing) {
  for (const char* list : {"", "a", "3-", "3-1", "-1", "1;2", "1,x", "999999"}) {
    EXPECT_EQ(count(processors_of(list)), -1) << list;
  }
}

TEST(CudaLocality, TheKernelSaysWhatIsNear) {
  const support::ScratchFolder folder;
  std::filesystem::create_directories(folder.path() / "0000:3b:00.0");
  std::ofstream(folder.path() / "0000:3b:00.0/local_cpulist") << "2-3\n";
  EXPECT_EQ(count(processors_near("0000:3B:00.0", folder.path())), 2);
  EXPECT_EQ(count(processors_near("0000:3c:00.0", folder.path())), -1);
}

TEST(CudaLocality, AThreadStaysWhereThereIsRoomForAllAndAChoice) {
  std::thread([] {
    cpu_set_t before;
    ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
    EXPECT_FALSE(stay_near(before, 1)) << "no choice";
    cpu_set_t one;
    CPU_ZERO(&one);
    unsigned first = 0;
    while (!CPU_ISSET(first, &before)) ++first;
    CPU_SET(first, &one);
    EXPECT_FALSE(stay_near(one, 2)) << "no room";
    const bool has_choice = CPU_COUNT(&before) > 1;
    EXPECT_EQ(stay_near(one, 1), has_choice);
    cpu_set_t after;
    ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
    EXPECT_EQ(CPU_COUNT(&after), 1);
  }).join();
}

}  // namespace
}  // namespace sluice::cuda
