// One NCCL communicator of two ranks, a sender and a receiver. It goes one way only, so a send
// never waits behind a receive.
//
// The communicator does not block. A call may return ncclInProgress; a thread of NCCL then puts the
// work on the stream, and no other call is allowed until ncclCommGetAsyncError() says that it is
// done. NCCL starts that thread for each message, which costs tens of microseconds beside the
// milliseconds of a GPU batch. A blocking communicator saves that, but cannot be given up where the
// other rank never comes.
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

  /// Begins to look for rank `peer`. The calling thread has made the channel's device its own
  /// (Backend::stream), also for send() and receive(). Throws DeviceError.
  NcclPair(const std::string& id, End end, int peer, std::chrono::milliseconds grace);
  ~NcclPair();  // abort(), unless it was closed
  NcclPair(const NcclPair&) = delete;
  NcclPair& operator=(const NcclPair&) = delete;

  /// Blocks until both ranks are there. Throws CommError after `until`.
  void meet(Time until);

  /// Puts a message on the stream. The first message of a pair needs both ranks; it is given up
  /// after `until`. Every call below throws CommError or DeviceError, and the first one ever thrown
  /// again.
  void send(const void* data, std::size_t bytes, cudaStream_t stream,
            std::optional<Time> until = {});
  void receive(void* data, std::size_t bytes, cudaStream_t stream, std::optional<Time> until = {});
  /// Throws where something that was put has failed.
  void check();
  /// Throws a CommError which says that the other rank is late.
  void give_up(const std::string& what);

  bool healthy() const { return comm_ != nullptr && !failed_; }
  /// Begins and finishes the end of a healthy pair; both ranks have to. Messages under way are not
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
