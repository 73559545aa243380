// Hidden states from the device of one stage to the device of the next, without the host between.
//
// A channel puts its messages on Lane::send and Lane::receive of a backend, in order and one at a
// time each; what they come before and after is made by events, as for any other lane:
//
//   backend.wait(Lane::send, backend.record(Lane::compute));  // the bytes are there
//   channel.send(bytes);
//   gone = backend.record(Lane::send);                        // ... and may be overwritten
//
// A receive may be put long before its message is sent, and keeps its lane until then. It may also
// hold up its own host thread: whoever loads a kernel or takes device memory waits, in the driver,
// for all that runs on the device. That is no deadlock as long as
//   - messages go one way only, from each rank to the next;
//   - receives are put in the order of the sends, and only of messages whose pass is known: all
//     that still has to happen for them happens on ranks before this one;
//   - the pass is told to the next rank (which puts the receive) before anything of it is put here.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "comm/world.h"
#include "kernels/device/backend.h"

namespace sluice::comm {

/// How hidden states travel. automatic: nccl where it can, else mpi.
enum class Transport : std::uint8_t { automatic, mpi, nccl };

class DeviceChannel {
 public:
  /// Waits for what is under way where all went well; breaks it off after a failure, and while an
  /// exception is on its way.
  virtual ~DeviceChannel() = default;

  /// Puts a message to the next rank on Lane::send; `bytes` of device memory stay the channel's
  /// until an event recorded after it is done. Throws CommError, DeviceError. Does not wait for the
  /// other rank.
  virtual void send(const void* data, std::size_t bytes) = 0;
  /// Puts the receive of the next message of the rank before on Lane::receive. As many bytes as are
  /// sent; a message of no bytes is none. Likewise.
  virtual void receive(void* data, std::size_t bytes) = 0;

  /// Throws CommError or DeviceError, with the code by its name, where something that was put has
  /// failed since. Any thread. Work on the lanes stands still then, until abort().
  virtual void check() = 0;
  /// Ends what is on the lanes, whatever it has done by then; every later call throws. Only when no
  /// rank will look at what comes of it: the job has failed, and the others know. Any thread.
  virtual void abort() noexcept = 0;
};

/// Device memory that is left to NCCL, for its buffers and kernels, where a stage would take all
/// there is. A guess: what it takes was not measured.
constexpr std::uint64_t kNcclDeviceBytes = std::uint64_t{256} << 20U;

/// What ranks that share hidden states agreed on.
struct TransportChoice {
  bool nccl = false;
  /// For people: "nccl"; "host-staged MPI (ranks 0 and 1 share GPU 0000:3b:00.0)".
  std::string text;
};

/// Collective. Throws ConfigError on every rank alike, where nccl was asked for and cannot be used.
/// Loads NCCL where it may be used, and sets what it reads of the environment. One rank: nothing to
/// choose, and the text is empty.
TransportChoice choose_transport(World& world, Transport wanted, const BackendInfo& device);

/// A channel of NCCL to the neighbours of this rank. Collective, after all ranks chose it; tries
/// for `deadline` at most. Throws CommError, DeviceError: on this rank alone, so that it is the
/// caller's to tell the others. `backend` must outlive the channel.
std::unique_ptr<DeviceChannel> connect_nccl(World& world, Backend& backend,
                                            std::chrono::milliseconds deadline);

}  // namespace sluice::comm
