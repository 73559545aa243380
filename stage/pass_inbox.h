// Where passes arrive at a stage. A header is forwarded to the next stage the moment it is here,
// and the receives of its hidden states are posted then, ahead of their use.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/device_channel.h"
#include "comm/world.h"
#include "kernels/device/backend.h"
#include "kernels/device/trace.h"
#include "stage/pass.h"
#include "stage/pass_buffers.h"
#include "stage/workspace.h"

namespace sluice::stage {

class PassInbox {
 public:
  static constexpr std::int64_t kPasses = 4;  // the present one, one ahead, two still leaving

  /// Posts the first receive. `workspace.received` holds what arrives, through `channel` where it
  /// is not null.
  PassInbox(const StageLayout& layout, const Workspace& workspace, comm::World& world,
            comm::DeviceChannel* channel, Backend& backend, Trace& trace);

  /// Blocks until the next pass is here (time goes to Activity::idle). The pass stays valid until
  /// the call after the next two.
  const Pass& next();
  /// Takes in a header that has arrived meanwhile. Called between tasks; blocks only for buffers of
  /// two passes ago that are still leaving.
  void poll();

  /// The buffer of the hidden states of a GPU batch of `pass`, [tokens, hidden]. Blocks until they
  /// are in it; with a channel Lane::compute does, and not the caller.
  TensorView hidden(const Pass& pass, std::int32_t gpu_batch);
  /// The buffer hidden() gave may be received into again once `event` is done.
  void consumed(const Pass& pass, std::int32_t gpu_batch, Event event);

 private:
  void post_header();
  void take_header(std::size_t bytes);
  void forward(std::span<const std::byte> header);
  void post_hidden(const Pass& pass);
  void post(std::size_t buffer, const TensorView& target);

  const StageLayout& layout_;
  const Workspace& workspace_;
  comm::World& world_;
  comm::DeviceChannel* const channel_;  // null: hidden states come through the world
  Backend& backend_;
  Trace& trace_;
  const PassBuffers buffers_;
  Pass passes_[kPasses];
  std::int64_t arrived_ = 0;
  std::int64_t taken_ = 0;
  std::vector<std::byte> incoming_;
  comm::Transfer header_;
  bool expecting_ = false;
  struct Forward {
    std::vector<std::byte> header;
    comm::Transfer transfer;
    bool under_way = false;
  };
  PerPass<Forward> forwards_;
  std::vector<comm::Transfer> receiving_;  // by buffer; without a channel
  std::vector<Event> arriving_;            // by buffer; with one
  std::vector<Event> consumed_;            // by buffer
};

}  // namespace sluice::stage
