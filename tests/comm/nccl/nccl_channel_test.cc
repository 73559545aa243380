// What a channel of NCCL promises, over an emulated NCCL that holds its streams as NCCL does.
#include "comm/nccl/nccl_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/engine.h"
#include "tests/support/message_lanes.h"
#include "tests/support/nccl_emulation.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using support::MessageLanes;
using testing::HasSubstr;

constexpr milliseconds kLong{60000};

class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

std::unique_ptr<MessageLanes> make_backend() {
  return std::make_unique<MessageLanes>(
      kernels::make_cpu_engine({.device = "cpu", .threads = 1}).backend);
}

/// A rank: its device, and its channel, which goes first.
struct Rank {
  std::unique_ptr<MessageLanes> backend = make_backend();
  std::unique_ptr<DeviceChannel> channel;

  Event send(const void* data, std::size_t bytes) {
    channel->send(data, bytes);
    return backend->record(Lane::send);
  }
  Event receive(void* data, std::size_t bytes) {
    channel->receive(data, bytes);
    return backend->record(Lane::receive);
  }
  void finish(Event event) { backend->synchronize(event); }
};

NcclEnds ends_of(Rank& rank, int number, const std::vector<std::string>& ids,
                 milliseconds deadline = kLong) {
  NcclEnds ends;
  ends.backend = rank.backend.get();
  ends.rank = number;
  ends.deadline = deadline;
  const auto index = static_cast<std::size_t>(number);
  if (index > 0) ends.from_previous = &ids[index - 1];
  if (index < ids.size()) ends.to_next = &ids[index];
  return ends;
}

std::vector<std::string> make_ids(std::size_t pairs) {
  std::vector<std::string> ids(pairs);
  for (std::string& id : ids) sluice_nccl_make_id(&id);
  return ids;
}

/// All meet at once, each on a thread of its own.
std::vector<Rank> connect(std::size_t size) {
  std::vector<Rank> ranks(size);
  const std::vector<std::string> ids = make_ids(size - 1);
  std::vector<std::future<void>> meetings;
  for (std::size_t r = 0; r < size; ++r) {
    meetings.push_back(std::async(std::launch::async, [&, r] {
      const NcclEnds ends = ends_of(ranks[r], static_cast<int>(r), ids);
      sluice_nccl_connect(&ends, &ranks[r].channel);
    }));
  }
  for (std::future<void>& meeting : meetings) meeting.get();
  return ranks;
}

/// Both ends at once: a healthy one waits for the other.
void close(std::vector<Rank>& ranks) {
  std::vector<std::future<void>> ends;
  for (Rank& rank : ranks) {
    ends.push_back(std::async(std::launch::async, [&rank] { rank.channel.reset(); }));
  }
  for (std::future<void>& end : ends) end.get();
}

std::vector<unsigned char> pattern(std::size_t bytes, std::size_t seed) {
  std::vector<unsigned char> values(bytes);
  for (std::size_t i = 0; i < bytes; ++i) values[i] = static_cast<unsigned char>(i * 31 + seed);
  return values;
}

template <class Kind>
std::string thrown_by(const std::function<void()>& work) {
  try {
    work();
  } catch (const Kind& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "nothing was thrown";
}

/// The error of something under way comes when it comes.
void check_until_it_throws(DeviceChannel& channel) {
  for (;;) {
    channel.check();
    std::this_thread::yield();
  }
}

TEST(NcclChannel, BringsMessagesOfAnySizeInOrder) {
  std::vector<Rank> ranks = connect(3);
  const std::size_t sizes[] = {1, 0, 4097, 3, 4 << 20, 0, 65536, 12289};
  std::vector<std::vector<unsigned char>> sent;
  std::vector<std::vector<unsigned char>> relayed;
  std::vector<std::vector<unsigned char>> received;
  for (const std::size_t size : sizes) {
    sent.push_back(pattern(size, sent.size() + size));
    relayed.emplace_back(size);
    received.emplace_back(size);
  }
  Event last;
  for (std::size_t i = 0; i < sent.size(); ++i) {
    last = ranks[2].receive(received[i].data(), received[i].size());
  }
  for (std::size_t i = 0; i < sent.size(); ++i) {
    const Event here = ranks[1].receive(relayed[i].data(), relayed[i].size());
    ranks[1].backend->wait(Lane::send, here);
    ranks[1].send(relayed[i].data(), relayed[i].size());
    ranks[0].send(sent[i].data(), sent[i].size());
  }
  ranks[2].finish(last);
  EXPECT_EQ(received, sent);
  for (Rank& rank : ranks) EXPECT_NO_THROW(rank.channel->check());
  close(ranks);
}

TEST(NcclChannel, ASendNeverWaitsForAReceive) {
  std::vector<Rank> ranks = connect(3);
  int come = 0;
  int gone = 5;
  int got = 0;
  const Event late = ranks[1].receive(&come, sizeof(come));  // long before it is sent
  const Event sent = ranks[1].send(&gone, sizeof(gone));
  EXPECT_FALSE(ranks[1].backend->done(sent)) << "no receive is there yet, and nobody waited for it";
  ranks[2].finish(ranks[2].receive(&got, sizeof(got)));
  EXPECT_EQ(got, 5);
  EXPECT_FALSE(ranks[1].backend->done(late));
  const int value = 7;
  ranks[0].send(&value, sizeof(value));
  ranks[1].finish(late);
  EXPECT_EQ(come, 7);
  ranks[1].finish(sent);
  close(ranks);
}

TEST(NcclChannel, EndsWellWithoutLosingWhatIsUnderWay) {
  const int destroyed = support::nccl_destroyed();
  const int aborted = support::nccl_aborted();
  std::vector<Rank> ranks = connect(2);
  const auto sent = pattern(1 << 20, 3);
  std::vector<unsigned char> received(sent.size());
  ranks[0].send(sent.data(), sent.size());
  auto closing = std::async(std::launch::async, [&] { ranks[0].channel.reset(); });
  ranks[1].finish(ranks[1].receive(received.data(), received.size()));
  closing.get();
  EXPECT_EQ(received, sent);
  close(ranks);
  EXPECT_EQ(support::nccl_destroyed(), destroyed + 2);
  EXPECT_EQ(support::nccl_aborted(), aborted);
}

TEST(NcclChannel, IsAbortedWhileAnExceptionIsOnItsWay) {
  const int destroyed = support::nccl_destroyed();
  const int aborted = support::nccl_aborted();
  std::vector<Rank> ranks = connect(2);
  const int value = 1;
  try {
    const std::unique_ptr<DeviceChannel> channel = std::move(ranks[0].channel);
    channel->send(&value, sizeof(value));  // nobody takes it
    throw std::runtime_error("something else");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(support::nccl_aborted(), aborted + 1);
  ranks[1].channel->abort();
  close(ranks);
  EXPECT_EQ(support::nccl_destroyed(), destroyed);
}

TEST(NcclChannel, NamesARankThatDoesNotCome) {
  Rank alone;
  const std::vector<std::string> ids = make_ids(1);
  for (const int number : {0, 1}) {
    const NcclEnds ends = ends_of(alone, number, ids, milliseconds(100));
    const std::string said =
        thrown_by<CommError>([&] { sluice_nccl_connect(&ends, &alone.channel); });
    EXPECT_THAT(said, HasSubstr("ncclCommInitRankConfig has not found rank " +
                                std::to_string(1 - number) + " in time"));
    EXPECT_EQ(alone.channel, nullptr);
  }
}

TEST(NcclChannel, NamesTheCallThatFails) {
  Rank alone;
  const std::vector<std::string> ids = make_ids(1);
  {
    const Variable fails("SLUICE_EMULATED_NCCL_FAILS", "ncclCommInitRankConfig:5");
    const NcclEnds ends = ends_of(alone, 0, ids);
    EXPECT_EQ(
        thrown_by<DeviceError>([&] { sluice_nccl_connect(&ends, &alone.channel); }),
        "NCCL, with rank 1: ncclCommInitRankConfig: ncclInvalidUsage (invalid usage (run with "
        "NCCL_DEBUG=WARN for details)): ncclCommInitRankConfig was told to fail");
  }
  {
    const Variable fails("SLUICE_EMULATED_NCCL_FAILS", "ncclGetUniqueId:2");
    std::string id;
    EXPECT_THAT(thrown_by<DeviceError>([&] { sluice_nccl_make_id(&id); }),
                HasSubstr("NCCL: ncclGetUniqueId: ncclSystemError (unhandled system error"));
  }
  std::vector<Rank> ranks = connect(2);
  int value = 0;
  {
    const Variable fails("SLUICE_EMULATED_NCCL_FAILS", "ncclSend:1");
    EXPECT_THAT(thrown_by<DeviceError>([&] { ranks[0].send(&value, sizeof(value)); }),
                HasSubstr("ncclSend: ncclUnhandledCudaError"));
  }
  // Once failed, always failed, with the first cause.
  EXPECT_THAT(thrown_by<DeviceError>([&] { ranks[0].channel->check(); }),
              HasSubstr("ncclSend: ncclUnhandledCudaError"));
  const int aborted = support::nccl_aborted();
  ranks[0].channel.reset();
  EXPECT_EQ(support::nccl_aborted(), aborted + 1);
  ranks[1].channel->abort();
}

TEST(NcclChannel, TellsWhatFailsUnderWayAndStandsStillUntilAborted) {
  // The first message of each pair is the greeting.
  const Variable breaks("SLUICE_EMULATED_NCCL_BREAKS", "3:3");
  std::vector<Rank> ranks = connect(2);
  int sent[] = {1, 2};
  int received[] = {0, 0};
  ranks[0].send(&sent[0], sizeof(int));
  ranks[1].finish(ranks[1].receive(&received[0], sizeof(int)));
  EXPECT_EQ(received[0], 1);
  const Event never = ranks[1].receive(&received[1], sizeof(int));
  EXPECT_THAT(thrown_by<DeviceError>([&] { check_until_it_throws(*ranks[1].channel); }),
              HasSubstr("NCCL, with rank 0: under way: ncclInternalError"));
  EXPECT_FALSE(ranks[1].backend->done(never));
  ranks[1].channel->abort();
  ranks[1].finish(never);
  EXPECT_THAT(thrown_by<DeviceError>([&] { ranks[1].receive(&received[1], sizeof(int)); }),
              HasSubstr("ncclInternalError"));
  ranks[0].channel->abort();
}

TEST(NcclChannel, TellsOfARankThatHasGone) {
  std::vector<Rank> ranks = connect(2);
  int value = 0;
  const Event never = ranks[1].receive(&value, sizeof(value));
  ranks[0].channel->abort();
  EXPECT_THAT(thrown_by<CommError>([&] { check_until_it_throws(*ranks[1].channel); }),
              HasSubstr("with rank 0: under way: ncclRemoteError (remote process exited"));
  EXPECT_FALSE(ranks[1].backend->done(never));
  ranks[1].channel->abort();
  ranks[1].finish(never);
}

TEST(NcclChannel, IsNoMoreAfterAbort) {
  std::vector<Rank> ranks = connect(2);
  for (Rank& rank : ranks) rank.channel->abort();
  int value = 0;
  EXPECT_THAT(thrown_by<CommError>([&] { ranks[0].send(&value, sizeof(value)); }),
              HasSubstr("the way to rank 1 was broken off"));
  EXPECT_THAT(thrown_by<CommError>([&] { ranks[1].channel->check(); }),
              HasSubstr("the way to rank 0 was broken off"));
}

TEST(NcclChannel, RefusesAnIdThatIsNone) {
  Rank alone;
  const std::vector<std::string> good = make_ids(1);
  EXPECT_EQ(good[0].size(), 256U);
  for (const std::string& bad : {std::string("12"), std::string(256, 'x'), good[0] + "00"}) {
    const std::vector<std::string> ids = {bad};
    const NcclEnds ends = ends_of(alone, 0, ids);
    EXPECT_THAT(thrown_by<CommError>([&] { sluice_nccl_connect(&ends, &alone.channel); }),
                HasSubstr("NCCL: an id"));
  }
}

TEST(NcclChannel, TakesItsDeviceOnEveryThreadThatCalls) {
  std::vector<Rank> ranks(2);
  const std::vector<std::string> ids = make_ids(1);
  const auto on_a_new_thread = [&](std::size_t rank, const std::function<void()>& work) {
    return std::async(std::launch::async, [&ranks, rank, work] {
      EXPECT_EQ(MessageLanes::device_of_thread(), nullptr);
      work();
      EXPECT_EQ(MessageLanes::device_of_thread(), ranks[rank].backend.get());
    });
  };
  const auto connect_one = [&](std::size_t rank) {
    return on_a_new_thread(rank, [&ranks, &ids, rank] {
      const NcclEnds ends = ends_of(ranks[rank], static_cast<int>(rank), ids);
      sluice_nccl_connect(&ends, &ranks[rank].channel);
    });
  };
  auto first = connect_one(0);
  connect_one(1).get();
  first.get();
  int sent = 7;
  int received = 0;
  on_a_new_thread(0, [&] { ranks[0].send(&sent, sizeof(sent)); }).get();
  on_a_new_thread(1, [&] { ranks[1].finish(ranks[1].receive(&received, sizeof(received))); }).get();
  EXPECT_EQ(received, 7);
  close(ranks);
}

TEST(NcclChannel, NeedsADeviceWithStreams) {
  const std::unique_ptr<Backend> cpu =
      kernels::make_cpu_engine({.device = "cpu", .threads = 1}).backend;
  NcclEnds ends;
  ends.backend = cpu.get();
  std::unique_ptr<DeviceChannel> channel;
  EXPECT_THAT(thrown_by<DeviceError>([&] { sluice_nccl_connect(&ends, &channel); }),
              HasSubstr("no streams for messages"));
}

}  // namespace
}  // namespace sluice::comm
