// When an inbox puts its receives on a device, and what they wait for: on a device that only keeps
// a list of what it is asked.
#include "stage/pass_inbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace sluice::stage {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

using Log = std::vector<std::string>;

std::string text_of(Event event) {
  return std::string(name_of(event.lane)) + " " + std::to_string(event.ticket);
}

class ListedBackend final : public Backend {
 public:
  explicit ListedBackend(Log& log) : log_(log) {}
  const BackendInfo& info() const override { return info_; }
  Memory allocate_device(std::size_t) override { return {}; }
  Memory allocate_host(std::size_t, bool) override { return {}; }
  void copy(Lane, void*, const void*, std::size_t) override {}
  void call(Lane, void (*)(void*), void*) override {}
  Event record(Lane lane) override { return {lane, ++recorded_[static_cast<std::size_t>(lane)]}; }
  void wait(Lane lane, Event event) override {
    if (event.ticket == 0) return;  // long past
    log_.push_back(std::string(name_of(lane)) + " waits for " + text_of(event));
  }
  bool done(Event) override { return true; }
  void synchronize(Event event) override {
    if (event.ticket > 0) log_.push_back("the host waits for " + text_of(event));
  }

 private:
  Log& log_;
  BackendInfo info_;
  std::uint64_t recorded_[kDeviceLaneCount] = {};
};

class ListedChannel final : public comm::DeviceChannel {
 public:
  explicit ListedChannel(Log& log) : log_(log) {}
  void send(const void*, std::size_t) override {}
  void receive(void*, std::size_t bytes) override {
    log_.push_back("receive " + std::to_string(bytes));
  }
  void check() override {}
  void abort() noexcept override {}

 private:
  Log& log_;
};

/// Stage 1 of 2, with 3 GPU batches; the test is stage 0.
class PassInboxTest : public testing::Test {
 protected:
  PassInboxTest() : worlds_(comm::make_local_worlds(2)), trace_(0) {
    layout_.model.hidden = 4;
    layout_.model.vocabulary = 8;
    layout_.stage = 1;
    layout_.stages = 2;
    layout_.device_channel = true;
    layout_.batching.gpu_batch_size = 2;
    layout_.batching.num_gpu_batches = 3;
    layout_.batching.max_tokens_per_gpu_batch = 8;
    layout_.batching.max_sequence_tokens = 16;
    data_.resize(static_cast<std::size_t>(layout_.buffers()) * 8 * 4);
    for (std::int32_t i = 0; i < layout_.buffers(); ++i) {
      workspace_.received.push_back({data_.data() + i * 8 * 4, DType::f32, 8, 4});
    }
    header_.resize(max_pass_bytes(layout_.batching, layout_.stages));
  }

  void open() {
    inbox_ =
        std::make_unique<PassInbox>(layout_, workspace_, *worlds_[1], &channel_, backend_, trace_);
  }

  /// Stage 0 tells of its next pass.
  void tell(const std::vector<std::int32_t>& batch_tokens, bool end = false) {
    Pass pass;
    pass.number = told_++;
    pass.end = end;
    pass.batch_tokens = batch_tokens;
    for (std::size_t g = 0; g < batch_tokens.size(); ++g) {
      if (batch_tokens[g] == 0) continue;
      PassRow& row = pass.rows.emplace_back();
      row.gpu_batch = static_cast<std::int32_t>(g);
      row.new_tokens = batch_tokens[g];
      row.total = 16;
      pass.tokens.resize(pass.tokens.size() + static_cast<std::size_t>(batch_tokens[g]), 1);
    }
    worlds_[0]->wait(
        worlds_[0]->send(comm::Route::passes, 1, encode(pass, std::span<std::byte>(header_))));
  }

  /// What was asked of the device since the last time.
  Log news() { return std::exchange(log_, {}); }

  Log log_;
  std::vector<std::unique_ptr<comm::World>> worlds_;
  Trace trace_;
  StageLayout layout_;
  std::vector<float> data_;
  Workspace workspace_;
  std::vector<std::byte> header_;
  std::int64_t told_ = 0;
  ListedBackend backend_{log_};
  ListedChannel channel_{log_};
  std::unique_ptr<PassInbox> inbox_;
};

TEST_F(PassInboxTest, PutsTheReceivesOfAPassWhenItsHeaderComes) {
  open();
  EXPECT_THAT(news(), IsEmpty());
  tell({5, 0, 2});  // of a GPU batch without rows nothing is sent
  const Pass& pass = inbox_->next();
  EXPECT_THAT(news(), ElementsAre("receive 80", "receive 32"));
  const TensorView first = inbox_->hidden(pass, 0);
  EXPECT_EQ(first.data, workspace_.received[0].data);
  EXPECT_EQ(first.rows, 5);
  EXPECT_THAT(news(), ElementsAre("compute waits for receive 1"));
  inbox_->hidden(pass, 2);
  EXPECT_THAT(news(), ElementsAre("compute waits for receive 2"));
  EXPECT_EQ(trace_.bytes(Activity::receive), 112U);
  tell({0, 0, 0}, true);
  EXPECT_TRUE(inbox_->next().end);
  EXPECT_THAT(news(), IsEmpty()) << "nothing comes with the pass that ends the job";
}

TEST_F(PassInboxTest, PutsThemOnePassAhead) {
  open();
  tell({1, 1, 1});
  inbox_->next();
  news();
  tell({2, 0, 0});
  inbox_->poll();
  EXPECT_THAT(news(), ElementsAre("receive 32"));
  tell({3, 0, 0});
  inbox_->poll();
  EXPECT_THAT(news(), IsEmpty()) << "two passes ahead";
  inbox_->next();
  inbox_->poll();
  EXPECT_THAT(news(), ElementsAre("receive 48"));
}

TEST_F(PassInboxTest, ABufferIsReceivedIntoAgainWhenItWasRead) {
  open();
  std::vector<Event> read;
  for (int n = 0; n < 2; ++n) {
    tell({1, 0, 1});
    const Pass& pass = inbox_->next();
    for (const std::int32_t g : {0, 2}) {
      inbox_->hidden(pass, g);
      read.push_back(backend_.record(Lane::compute));
      inbox_->consumed(pass, g, read.back());
    }
  }
  news();
  tell({4, 4, 0});
  inbox_->next();  // it uses the buffers of the first; the device waits for that, the host does not
  EXPECT_THAT(news(), ElementsAre("receive waits for compute 1", "receive 64", "receive 64"));
  tell({0, 0, 4});
  inbox_->next();
  EXPECT_THAT(news(), ElementsAre("receive waits for compute 4", "receive 64"));
}

}  // namespace
}  // namespace sluice::stage
