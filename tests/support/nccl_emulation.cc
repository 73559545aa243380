#include "tests/support/nccl_emulation.h"

#include <nccl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include "tests/support/cuda_emulation/stream.h"

struct ncclComm {
  int rank = 0;
  bool blocking = true;
  std::string name;  // of the socket, in the abstract name space
  int socket = -1;
  std::thread meeting;
  std::atomic<int> state{ncclInProgress};
  std::atomic<bool> asked{false};  // since the last call, whether it is done
  std::atomic<bool> aborted{false};
  std::atomic<bool> finalizing{false};
  std::atomic<int> pending{0};  // messages on streams
  int messages = 0;
  std::string last_error;
};

namespace {

std::atomic<int> destroyed{0};
std::atomic<int> aborted{0};

thread_local std::string last_error_text;

/// The number after "<what>:" in the environment variable, or 0.
int told(const char* variable, const std::string& what) {
  const char* const value = std::getenv(variable);
  if (value == nullptr) return 0;
  const std::string text = value;
  const std::size_t colon = text.find(':');
  return text.substr(0, colon) == what ? std::atoi(text.c_str() + colon + 1) : 0;
}

ncclResult_t refuse(const char* call) {
  const int code = told("SLUICE_EMULATED_NCCL_FAILS", call);
  if (code != 0) last_error_text = std::string(call) + " was told to fail";
  return static_cast<ncclResult_t>(code);
}

sockaddr_un address_of(const std::string& name, socklen_t& length) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

void nap() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

/// Rank 1 listens, rank 0 knocks until somebody is there.
void meet(ncclComm& comm) {
  socklen_t length = 0;
  const sockaddr_un address = address_of(comm.name, length);
  const auto* const where = reinterpret_cast<const sockaddr*>(&address);
  const int own = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (comm.rank == 1) {
    if (bind(own, where, length) != 0 || listen(own, 1) != 0) {
      comm.last_error = std::strerror(errno);
      comm.state = ncclSystemError;
    }
    while (!comm.aborted && comm.state == ncclInProgress) {
      pollfd waiting = {own, POLLIN, 0};
      if (poll(&waiting, 1, 1) == 1) {
        comm.socket = accept4(own, nullptr, nullptr, SOCK_CLOEXEC);
        break;
      }
    }
    close(own);
  } else {
    while (!comm.aborted && connect(own, where, length) != 0) nap();
    comm.socket = own;
  }
  if (comm.state == ncclInProgress && comm.socket >= 0) comm.state = ncclSuccess;
}

/// False: the other end has gone, or this one gives up.
bool move_all(ncclComm& comm, void* data, std::size_t bytes, bool sending) {
  auto* at = static_cast<char*>(data);
  while (bytes > 0) {
    if (comm.aborted) return false;
    pollfd ready = {comm.socket, static_cast<short>(sending ? POLLOUT : POLLIN), 0};
    if (poll(&ready, 1, 1) != 1) continue;
    const ssize_t moved =
        sending ? ::send(comm.socket, at, bytes, MSG_NOSIGNAL) : ::recv(comm.socket, at, bytes, 0);
    if (moved <= 0) return false;
    at += moved;
    bytes -= static_cast<std::size_t>(moved);
  }
  return true;
}

/// A message is its length and its bytes; the receiver answers with a byte when it has them, so
/// that nothing is buffered.
bool pass_on(ncclComm& comm, void* data, std::size_t bytes, bool sending) {
  std::uint64_t length = bytes;
  char taken = 1;
  if (!move_all(comm, &length, sizeof(length), sending)) return false;
  if (length != bytes) {
    comm.last_error = "a message of " + std::to_string(length) + " bytes meets a receive of " +
                      std::to_string(bytes);
    comm.state = ncclInvalidUsage;
    return false;
  }
  return move_all(comm, data, bytes, sending) && move_all(comm, &taken, 1, !sending);
}

void run_message(ncclComm& comm, void* data, std::size_t bytes, bool sending, int number) {
  int broken = told("SLUICE_EMULATED_NCCL_BREAKS", std::to_string(number));
  if (broken == 0 && !pass_on(comm, data, bytes, sending)) broken = ncclRemoteError;
  // The call that put the message is answered first: what breaks is told as being under way.
  while (broken != 0 && !comm.asked && !comm.aborted) nap();
  if (broken != 0 && !comm.aborted) {
    if (comm.last_error.empty()) comm.last_error = "the connection was closed by the peer";
    if (comm.state == ncclSuccess) comm.state = broken;
    while (!comm.aborted) nap();  // a kernel that waits for what never comes
  }
  --comm.pending;
}

ncclResult_t put(ncclComm_t comm, void* data, std::size_t count, ncclDataType_t type, int peer,
                 cudaStream_t stream, const char* call) {
  if (const ncclResult_t told_to = refuse(call); told_to != ncclSuccess) return told_to;
  if (type != ncclUint8 || peer == comm->rank || peer < 0 || peer > 1) return ncclInvalidArgument;
  if (comm->state != ncclSuccess) return static_cast<ncclResult_t>(comm->state.load());
  if (!comm->asked) {
    comm->last_error = "Attempt to use communicator before the previous operation was done";
    return ncclInvalidArgument;
  }
  const bool sending = std::strcmp(call, "ncclSend") == 0;
  ++comm->pending;
  const int number = ++comm->messages;
  comm->asked = comm->blocking;
  stream->enqueue([=] { run_message(*comm, data, count, sending, number); });
  return comm->blocking ? ncclSuccess : ncclInProgress;
}

void release(ncclComm_t comm) {
  if (comm->meeting.joinable()) comm->meeting.join();
  while (comm->pending > 0) nap();
  if (comm->socket >= 0) close(comm->socket);
  delete comm;
}

}  // namespace

namespace sluice::support {

int nccl_destroyed() { return destroyed; }
int nccl_aborted() { return aborted; }

}  // namespace sluice::support

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const ncclResult_t told_to = refuse("ncclGetUniqueId"); told_to != ncclSuccess) {
    return told_to;
  }
  static std::atomic<int> made{0};
  std::snprintf(id->internal, sizeof(id->internal), "sluice-nccl-%d-%d-%u", getpid(), ++made,
                std::random_device()());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  *comm = nullptr;
  if (const ncclResult_t told_to = refuse("ncclCommInitRankConfig"); told_to != ncclSuccess) {
    return told_to;
  }
  if (ranks != 2 || rank < 0 || rank > 1) return ncclInvalidArgument;
  auto* const made = new ncclComm;
  made->rank = rank;
  made->blocking = config->blocking != 0;
  made->name = id.internal;
  made->meeting = std::thread([made] { meet(*made); });
  *comm = made;
  if (!made->blocking) return ncclInProgress;
  made->meeting.join();
  made->asked = true;
  return static_cast<ncclResult_t>(made->state.load());
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = static_cast<ncclResult_t>(comm->state.load());
  if (comm->finalizing && comm->pending > 0 && *state == ncclSuccess) *state = ncclInProgress;
  if (*state != ncclInProgress) comm->asked = true;
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return put(comm, const_cast<void*>(data), count, type, peer, stream, "ncclSend");
}

ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return put(comm, data, count, type, peer, stream, "ncclRecv");
}

ncclResult_t ncclGroupStart() { return ncclSuccess; }
ncclResult_t ncclGroupEnd() { return ncclSuccess; }

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (const ncclResult_t told_to = refuse("ncclCommFinalize"); told_to != ncclSuccess) {
    return told_to;
  }
  if (comm->state != ncclSuccess) return static_cast<ncclResult_t>(comm->state.load());
  comm->finalizing = true;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  ++destroyed;
  release(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  ++aborted;
  comm->aborted = true;
  release(comm);
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError:
      return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError:
      return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument:
      return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage:
      return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t comm) {
  return comm != nullptr && !comm->last_error.empty() ? comm->last_error.c_str()
                                                      : last_error_text.c_str();
}

}  // extern "C"
