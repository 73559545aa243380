// Hidden states from the device of one stage to the device of the next, past the host.
//
// A channel puts its messages on Lane::send and Lane::receive of a backend, in order, one at a time
// on each. Events order them with other lanes, as everywhere:
//
//   backend.wait(Lane::send, backend.record(Lane::compute));  // the bytes are there
//   channel.send(bytes);
//   gone = backend.record(Lane::send);                        // ... and may be overwritten
//
// A receive may be put long before its message is sent, and keeps its lane until then. A thread of
// the same rank that loads a kernel or takes device memory waits meanwhile, because the driver
// waits for everything that runs on the device. This cannot deadlock as long as
//   - messages go one way only, from each rank to the next;
//   - receives are put in the order of the sends, and only for passes that have been told: a
//   message
//     then depends only on ranks before this one;
//   - a rank tells the next rank of a pass, so that it puts the receive, before it puts a send of
//   it.
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
  /// Waits for what is under way where all went well. Breaks it off after a failure, and during
  /// stack unwinding.
  virtual ~DeviceChannel() = default;

  /// Puts a message to the next rank on Lane::send. `data`, in device memory, must stay unchanged
  /// until an event recorded after it is done. Does not wait for the other rank. Throws CommError,
  /// DeviceError.
  virtual void send(const void* data, std::size_t bytes) = 0;
  /// Puts the receive of the previous rank's next message on Lane::receive; `bytes` must be as many
  /// as are sent. A message of no bytes is none: neither side puts anything. Otherwise as send().
  virtual void receive(void* data, std::size_t bytes) = 0;

  /// Throws CommError or DeviceError, naming the code, where something that was put has failed
  /// since. The lanes stand still then, until abort(). Any thread.
  virtual void check() = 0;
  /// Breaks off what is on the lanes; every later call throws. Call it only after the other ranks
  /// know that the job has failed: garbage may have arrived, and no rank may use it. Any thread.
  virtual void abort() noexcept = 0;
};

/// Device memory left to NCCL for its buffers and kernels, where a stage would take all there is.
/// This is a guess: what NCCL takes was not measured.
constexpr std::uint64_t kNcclDeviceBytes = std::uint64_t{256} << 20U;

/// What ranks that share hidden states agreed on.
struct TransportChoice {
  bool nccl = false;
  /// For people: "nccl"; "host-staged MPI (ranks 0 and 1 share GPU 0000:3b:00.0)".
  std::string text;
};

/// Loads NCCL where it may be used, and sets its environment variables where the user has not. A
/// job of one rank has nothing to choose, and the text is empty. Collective. Throws ConfigError, on
/// every rank alike, where nccl was asked for and cannot be used.
TransportChoice choose_transport(World& world, Transport wanted, const BackendInfo& device);

/// An NCCL channel to this rank's neighbours; tries for `deadline` at most. `backend` must outlive
/// the channel. Collective, after all ranks chose NCCL. Throws CommError and DeviceError on this
/// rank alone: the caller tells the others.
std::unique_ptr<DeviceChannel> connect_nccl(World& world, Backend& backend,
                                            std::chrono::milliseconds deadline);

}  // namespace sluice::comm
