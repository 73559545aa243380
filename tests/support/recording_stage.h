// A stage on a recording engine (recording_engine.h), with doubles of what is around it: the ranks
// before and behind it, and a disk on which everything is done at once.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/device_channel.h"
#include "comm/world.h"
#include "offload/disk/disk_engine.h"
#include "stage/executor.h"
#include "tests/support/recording_engine.h"
#include "tests/support/scratch_folder.h"

namespace sluice::support {

/// Headers come from the test; hidden states come and go at once; results go nowhere.
class RecordingWorld final : public comm::World {
 public:
  RecordingWorld(Recorder& recorder, int rank, int size)
      : recorder_(recorder), rank_(rank), hosts_(static_cast<std::size_t>(size)) {}

  void tell(std::vector<std::byte> header) { headers_.push_back(std::move(header)); }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(hosts_.size()); }
  int ranks_on_host() const override { return 1; }
  int local_rank() const override { return 0; }
  const std::vector<comm::Host>& hosts() const override { return hosts_; }

  comm::Transfer send(comm::Route route, int, std::span<const std::byte> bytes) override {
    return start(route == comm::Route::hidden, Lane::send, bytes.size(), {});
  }
  comm::Transfer receive(comm::Route route, int, std::span<std::byte> bytes) override {
    if (route == comm::Route::hidden) return start(true, Lane::receive, bytes.size(), {});
    return start(false, Lane::receive, 0, bytes);
  }
  bool done(comm::Transfer, std::size_t*) override { return false; }
  std::size_t wait(comm::Transfer transfer) override {
    Message message;
    {
      const std::lock_guard lock(mutex_);
      message = messages_.at(transfer.index);
    }
    if (message.is_hidden) recorder_.know(message.operation);
    if (message.header.empty()) return message.bytes;
    const std::vector<std::byte> header = std::move(headers_.front());
    headers_.pop_front();
    std::copy(header.begin(), header.end(), message.header.begin());
    return header.size();
  }
  void ring_for(comm::Route, comm::Bell*) override {}
  void throw_if_failed() const override {}
  std::vector<std::string> gather(const std::string& text) override { return {text}; }
  std::string broadcast(const std::string& text) override { return text; }
  void step(const char*, std::int64_t, std::int64_t) override {}
  [[noreturn]] void fail(ExitStatus status, const std::string& sentence) override {
    throw Error(status, sentence);
  }

 private:
  struct Message {
    bool is_hidden = false;
    std::size_t operation = 0;
    std::size_t bytes = 0;
    std::span<std::byte> header;
  };
  comm::Transfer start(bool is_hidden, Lane lane, std::size_t bytes, std::span<std::byte> header) {
    Message message{is_hidden, 0, bytes, header};
    if (is_hidden) {
      Operation operation;
      operation.kind = Operation::Kind::message;
      operation.lane = lane;
      operation.bytes = bytes;
      message.operation = recorder_.add(std::move(operation));
    }
    const std::lock_guard lock(mutex_);
    messages_[++last_] = message;
    return {last_};
  }

  Recorder& recorder_;
  int rank_;
  std::vector<comm::Host> hosts_;
  std::deque<std::vector<std::byte>> headers_;
  std::mutex mutex_;
  std::map<std::int32_t, Message> messages_;
  std::int32_t last_ = -1;
};

class RecordingChannel final : public comm::DeviceChannel {
 public:
  explicit RecordingChannel(Recorder& recorder) : recorder_(recorder) {}
  void send(const void*, std::size_t bytes) override { add(Lane::send, bytes); }
  void receive(void*, std::size_t bytes) override { add(Lane::receive, bytes); }
  void check() override {}
  void abort() noexcept override {}

 private:
  void add(Lane lane, std::size_t bytes) {
    Operation operation;
    operation.kind = Operation::Kind::message;
    operation.lane = lane;
    operation.bytes = bytes;
    recorder_.add(std::move(operation));
  }
  Recorder& recorder_;
};

class InstantDisk final : public offload::DiskEngine {
 public:
  std::string description() const override { return "instant"; }
  offload::FileId open_read(const std::filesystem::path&) override { return 0; }
  offload::FileId open_read_checked(const std::filesystem::path&,
                                    std::span<const std::uint32_t>) override {
    return 0;
  }
  offload::FileId create(const std::filesystem::path&, std::uint64_t) override { return 0; }
  std::uint64_t checksum_bytes() const override { return 0; }
  void read(offload::FileId, std::uint64_t, std::size_t, void*, offload::IoGroup&) override {}
  void write(offload::FileId, std::uint64_t, std::size_t, const void*, offload::IoGroup&) override {
  }
};

/// Parts with a block of memory each, so that an address says whose it is.
class RecordingStage {
 public:
  struct Block {
    const std::byte* data = nullptr;
    std::size_t bytes = 0;
    bool holds(const void* place) const { return place >= data && place < data + bytes; }
  };

  explicit RecordingStage(const stage::StageLayout& layout)
      : layout_(layout),
        engine_(make_recording_engine(recorder_)),
        world_(recorder_, layout.stage, layout.stages),
        channel_(recorder_),
        folder_(scratch_.path(), 0),
        source_(offload::make_dummy_source(DType::f32, disk_, folder_.path())),
        placement_(offload::place_weights(stage::layer_specs(layout_),
                                          layout_.config.policy.weights, *source_)),
        trace_(0) {
    const offload::Policy& policy = layout_.config.policy;
    const offload::WeightStreamOptions options{policy.weight_slots, &trace_, policy.overlap};
    offload::WeightStream::plan(placement_, options, plans_[0]);
    offload::KvCache::plan(stage::kv_shape(layout_), policy, plans_[1]);
    offload::ActivationStore::plan(stage::activation_shape(layout_), policy.activations, plans_[2]);
    const stage::WorkspaceBytes own = stage::workspace_bytes(layout_);
    plans_[3].reserve(offload::Tier::device, "workspace", own.device);
    plans_[3].reserve(offload::Tier::host, "workspace", own.host + own.histories);
    plans_[3].reserve(offload::Tier::host, offload::kControl, own.control);
    for (std::size_t part = 0; part < 4; ++part) allocate(part);
    Backend& backend = *engine_.backend;
    weights_.emplace(backend, *source_, placement_, options, arenas_[0][0], arenas_[0][1]);
    cache_.emplace(engine_, stage::kv_shape(layout_), policy, arenas_[1][0], arenas_[1][1],
                   arenas_[1][2], &disk_, &folder_, &trace_);
    activations_.emplace(backend, stage::activation_shape(layout_), policy.activations,
                         arenas_[2][0], arenas_[2][1], &disk_, &folder_, &trace_);
    workspace_.emplace(layout_, arenas_[3][0], arenas_[3][1], arenas_[3][2]);
    comm::DeviceChannel* channel = layout_.device_channel ? &channel_ : nullptr;
    executor_.emplace(stage::StageParts{layout_, placement_, world_, channel, engine_, *weights_,
                                        *cache_, *activations_, *workspace_, trace_});
    inbox_.emplace(layout_, *workspace_, world_, channel, backend, trace_);
  }

  enum Part : std::size_t { weights, cache, activations, workspace };
  bool is_in(Part part, const void* place) const {
    return std::ranges::any_of(blocks_[part],
                               [place](const Block& block) { return block.holds(place); });
  }

  Recorder& recorder() { return recorder_; }
  RecordingWorld& world() { return world_; }
  stage::Executor& executor() { return *executor_; }
  stage::PassInbox& inbox() { return *inbox_; }
  const std::vector<offload::GroupPlacement>& placement() const { return placement_; }

 private:
  void allocate(std::size_t part) {
    Backend& backend = *engine_.backend;
    const std::uint64_t control = plans_[part].total(offload::Tier::host, offload::kControl);
    const std::uint64_t bytes[] = {plans_[part].total(offload::Tier::device),
                                   plans_[part].total(offload::Tier::host) - control, control};
    for (std::size_t arena = 0; arena < std::size(bytes); ++arena) {
      Memory memory = backend.allocate_device(bytes[arena]);
      blocks_[part][arena] = {memory.data(), memory.bytes()};
      arenas_[part][arena] = offload::Arena(std::move(memory), "recorded");
    }
  }

  Recorder recorder_;
  stage::StageLayout layout_;
  kernels::Engine engine_;
  RecordingWorld world_;
  RecordingChannel channel_;
  InstantDisk disk_;
  ScratchFolder scratch_;
  offload::RunFolder folder_;
  std::unique_ptr<offload::WeightSource> source_;
  std::vector<offload::GroupPlacement> placement_;
  Trace trace_;
  offload::MemoryPlan plans_[4];
  Block blocks_[4][3];  // by part: device, host, control
  offload::Arena arenas_[4][3];
  std::optional<offload::WeightStream> weights_;
  std::optional<offload::KvCache> cache_;
  std::optional<offload::ActivationStore> activations_;
  std::optional<stage::Workspace> workspace_;
  std::optional<stage::Executor> executor_;
  std::optional<stage::PassInbox> inbox_;
};

}  // namespace sluice::support
