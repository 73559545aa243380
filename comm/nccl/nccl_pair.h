// One communicator of NCCL with two ranks, a sender and a receiver: one way only, so that a send
// never waits behind a receive.
//
// The communicator does not block: a call may return ncclInProgress, its work then is put on the
// stream by a thread of NCCL's, and nothing else may be asked of the communicator until
// ncclCommGetAsyncError() says that this is done. (NCCL starts that thread anew for each message:
// tens of microseconds, beside the milliseconds of a GPU batch. Blocking communicators do not, but
// cannot be given up where the other rank never comes.)
#pragma once

#include <nccl.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <mutex>
#include <optional>
#include <string>

namespace sluice::comm {

/// A new unique id, as hexadecimal digits. Throws DeviceError.
std::string make_nccl_id();

/// Any thread may call; a call waits for another to end.
class NcclPair {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class End : int { sender = 0, receiver = 1 };  // its rank in the communicator

  /// Begins to look for rank `peer`, with the device current on this thread. Throws DeviceError.
  NcclPair(const std::string& id, End end, int peer, std::chrono::milliseconds grace);
  ~NcclPair();  // abort(), unless it was closed
  NcclPair(const NcclPair&) = delete;
  NcclPair& operator=(const NcclPair&) = delete;

  /// Blocks until both ranks are there. Throws CommError after `until`.
  void meet(Time until);

  /// Puts a message on the stream. The first one of a pair needs both ranks, and so may have to be
  /// given up: `until`. Every call below throws CommError or DeviceError, the first one again.
  void send(const void* data, std::size_t bytes, cudaStream_t stream,
            std::optional<Time> until = {});
  void receive(void* data, std::size_t bytes, cudaStream_t stream, std::optional<Time> until = {});
  /// Throws where something that was put has failed.
  void check();
  /// Says that the other rank is late. Throws it as CommError.
  void give_up(const std::string& what);

  bool healthy() const { return comm_ != nullptr && !failed_; }
  /// Begins to end, and ends, a healthy one; both ranks have to. What is under way by then is not
  /// broken off. Aborts where that fails, or is not done after `until`.
  void begin_close() noexcept;
  void finish_close(Time until) noexcept;
  void abort() noexcept;

 private:
  template <class Work>
  void locked(const Work& work);
  void await(const char* call, ncclResult_t result, std::optional<Time> until);
  [[noreturn]] void fail(const char* call, ncclResult_t result);

  const int peer_;
  const std::chrono::milliseconds grace_;
  std::mutex mutex_;  // guards comm_ and cause_
  ncclComm_t comm_ = nullptr;
  std::exception_ptr cause_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> aborting_{false};
  ncclResult_t closing_ = ncclSuccess;
};

}  // namespace sluice::comm
