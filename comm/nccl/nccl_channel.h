// Hidden states over NCCL: a pair with the rank before, a pair with the next.
#pragma once

#include <exception>
#include <optional>

#include "comm/device_channel.h"
#include "comm/nccl/nccl_pair.h"
#include "comm/nccl_plugin.h"

namespace sluice::comm {

class NcclChannel final : public DeviceChannel {
 public:
  /// Meets the neighbours, and sends and receives a first message, so that NCCL sets up the way
  /// between two GPUs before the first pass.
  explicit NcclChannel(const NcclEnds& ends);
  ~NcclChannel() override;

  void send(const void* data, std::size_t bytes) override;
  void receive(void* data, std::size_t bytes) override;
  void check() override;
  void abort() noexcept override;

 private:
  using Time = NcclPair::Time;

  void greet(Time until);
  void await(Event event, NcclPair& pair, Time until);
  cudaStream_t stream(Lane lane) const { return static_cast<cudaStream_t>(backend_.stream(lane)); }

  Backend& backend_;
  const int rank_;
  const std::chrono::milliseconds deadline_;
  const int exceptions_ = std::uncaught_exceptions();
  /// Device memory. It must be freed after the pairs are gone: the driver waits for everything that
  /// runs on the device before it frees any, and a receive without a sender runs until its pair is
  /// aborted.
  Memory greeting_;
  std::optional<NcclPair> in_;
  std::optional<NcclPair> out_;
};

}  // namespace sluice::comm
