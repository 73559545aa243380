#include "comm/channel_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>

namespace sluice::comm {
namespace {

/// Fails when it is told to.
class FragileChannel final : public DeviceChannel {
 public:
  void send(const void*, std::size_t) override {}
  void receive(void*, std::size_t) override {}
  void check() override {
    ++checks;
    if (broken) throw DeviceError("NCCL, with rank 1: under way: ncclInternalError");
  }
  void abort() noexcept override { aborted.set_value(); }

  std::atomic<int> checks{0};
  std::atomic<bool> broken{false};
  std::promise<void> aborted;
};

TEST(ChannelWatch, EndsTheJobThenTheChannel) {
  const auto worlds = make_local_worlds(2);
  FragileChannel channel;
  const ChannelWatch watch(channel, *worlds[0]);
  channel.broken = true;
  channel.aborted.get_future().wait();
  // The others know it by then: nobody takes what an aborted lane left for an answer.
  try {
    worlds[1]->gather("");
    ADD_FAILURE() << "the job goes on";
  } catch (const CommError& error) {
    EXPECT_STREQ(error.what(), "rank 0: NCCL, with rank 1: under way: ncclInternalError");
  }
}

TEST(ChannelWatch, LeavesAHealthyChannelAlone) {
  const auto worlds = make_local_worlds(1);
  FragileChannel channel;
  {
    const ChannelWatch watch(channel, *worlds[0]);
    while (channel.checks < 3) std::this_thread::yield();
  }
  EXPECT_EQ(worlds[0]->gather("alive"), std::vector<std::string>{"alive"});
  EXPECT_EQ(channel.aborted.get_future().wait_for(std::chrono::seconds(0)),
            std::future_status::timeout);
}

}  // namespace
}  // namespace sluice::comm
