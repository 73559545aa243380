#include "launcher/machine/device_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/gather.h"
#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

RankDevice gpu(const std::string& host, const std::string& id, std::uint64_t wanted = kGiB,
               const std::string& dtype = "f16") {
  return {host, "cuda", id, dtype, wanted, 4 * kGiB, 0};
}

std::string refusal(const std::vector<RankDevice>& ranks) {
  try {
    check_devices(ranks);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(DeviceShare, EveryRankLearnsOfEveryDevice) {
  const auto worlds = comm::make_local_worlds(1);
  const RankDevice back = comm::gather(*worlds[0], gpu("a node", "0000:3b:00.0", 7)).front();
  EXPECT_EQ(back.host, "a node");
  EXPECT_EQ(back.kind, "cuda");
  EXPECT_EQ(back.device_id, "0000:3b:00.0");
  EXPECT_EQ(back.compute_dtype, "f16");
  EXPECT_EQ(back.wanted, 7U);
  EXPECT_EQ(back.free, 4 * kGiB);
}

TEST(DeviceShare, OneGpuEachAndCpusAreFine) {
  EXPECT_EQ(refusal({gpu("a", "0"), gpu("a", "1"), gpu("b", "0")}), "");
  EXPECT_EQ(refusal({{"a", "cpu", "", "f32", 0, 0, 0}, {"a", "cpu", "", "f32", 0, 0, 0}}), "");
  EXPECT_THAT(shared_devices({gpu("a", "0"), gpu("a", "1"), gpu("b", "0")}), IsEmpty());
}

TEST(DeviceShare, SharersAreNamed) {
  EXPECT_THAT(shared_devices({gpu("a", "0"), gpu("b", "0"), gpu("a", "0"), gpu("a", "0")}),
              ElementsAre("ranks 0, 2 and 3 share GPU 0 of a"));
}

TEST(DeviceShare, SharersMustFitTogether) {
  EXPECT_EQ(refusal({gpu("a", "0", 2 * kGiB), gpu("a", "0", 2 * kGiB)}), "");
  const std::string sentence = refusal({gpu("a", "0", 2 * kGiB), gpu("a", "0", 2 * kGiB + 1)});
  EXPECT_THAT(sentence, HasSubstr("GPU 0 of host a: ranks 0 and 1 plan 4.0 GiB"));
  EXPECT_THAT(sentence, HasSubstr("budget.device"));
  EXPECT_THROW(check_devices({gpu("a", "0", 5 * kGiB)}), CapacityError);
  // Workspaces of 1 GiB are there already, and in the plans: 2 and 3 of 5, the last saw 4 of them.
  RankDevice first = gpu("a", "0", 2 * kGiB);
  RankDevice last = gpu("a", "0", 3 * kGiB);
  first.taken = last.taken = kGiB;
  first.free = 5 * kGiB;
  EXPECT_EQ(refusal({first, last}), "");
  last.wanted += 1;
  EXPECT_NE(refusal({first, last}), "");
}

TEST(DeviceShare, InstancesOfAGpuAreDevicesOfTheirOwn) {
  RankDevice first = gpu("a", "0000:3b:00.0", 3 * kGiB);
  RankDevice second = first;
  first.device_id = "0000:3b:00.0 3b1c9f60-0";
  second.device_id = "0000:3b:00.0 3b1c9f60-1";
  EXPECT_EQ(refusal({first, second}), "");
  EXPECT_THAT(shared_devices({first, second}), IsEmpty());
  second.device_id = first.device_id;
  EXPECT_THAT(shared_devices({first, second}),
              ElementsAre("ranks 0 and 1 share GPU 0000:3b:00.0 of a"));
  EXPECT_THAT(refusal({first, second}), HasSubstr("GPU 0000:3b:00.0 of host a: ranks 0 and 1"));
}

TEST(DeviceShare, HiddenStatesMustGoTogether) {
  EXPECT_THROW(check_devices({gpu("a", "0"), {"a", "cpu", "", "f32", 0, 0, 0}}), ConfigError);
  EXPECT_THAT(
      refusal({gpu("a", "0"), {"a", "cpu", "", "f32", 0, 0, 0}}),
      HasSubstr("stages[1].device: rank 0 computes in f16 on cuda, but rank 1 in f32 on cpu"));
}

}  // namespace
}  // namespace sluice::launcher
