#include "comm/nccl/nccl_pair.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <thread>

#include "comm/backoff.h"
#include "kernels/device/error.h"

namespace sluice::comm {

namespace {

using std::chrono::steady_clock;

/// Thread blocks of a message. Each holds a part of a multiprocessor from the time a receive is put
/// until its message is there. NCCL by default takes up to 16 or 32 for two GPUs of a host. Four
/// should fill a PCIe link, and are a thirtieth of an H100; neither was measured. The user's
/// NCCL_MAX_CTAS wins.
constexpr int kThreadBlocks = 4;

const char* name_of(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "ncclSuccess";
    case ncclUnhandledCudaError:
      return "ncclUnhandledCudaError";
    case ncclSystemError:
      return "ncclSystemError";
    case ncclInternalError:
      return "ncclInternalError";
    case ncclInvalidArgument:
      return "ncclInvalidArgument";
    case ncclInvalidUsage:
      return "ncclInvalidUsage";
    case ncclRemoteError:
      return "ncclRemoteError";
    case ncclInProgress:
      return "ncclInProgress";
    default:
      return "an unknown ncclResult_t";
  }
}

/// "ncclSend: ncclSystemError (unhandled system error): socket closed by ...", one line.
std::string describe(const char* call, ncclResult_t result, ncclComm_t comm) {
  std::string text = fmt::format("{}: {} ({})", call, name_of(result), ncclGetErrorString(result));
  const char* const last = ncclGetLastError(comm);
  if (last != nullptr && *last != '\0') text += fmt::format(": {}", last);
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

/// Whether another rank, or the way to it, may be the cause.
bool may_be_remote(ncclResult_t result) {
  return result == ncclRemoteError || result == ncclSystemError;
}

ncclUniqueId id_from(const std::string& hex) {
  ncclUniqueId id = {};
  if (hex.size() != 2 * sizeof(id.internal)) {
    throw CommError(fmt::format("NCCL: an id of {} digits came instead of {}", hex.size(),
                                2 * sizeof(id.internal)));
  }
  for (std::size_t i = 0; i < sizeof(id.internal); ++i) {
    unsigned char byte = 0;
    const char* const digits = hex.data() + 2 * i;
    const auto [end, error] = std::from_chars(digits, digits + 2, byte, 16);
    if (error != std::errc() || end != digits + 2) {
      throw CommError("NCCL: an id came that is no hexadecimal number");
    }
    id.internal[i] = static_cast<char>(byte);
  }
  return id;
}

}  // namespace

std::string make_nccl_id() {
  ncclUniqueId id = {};
  if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess) {
    throw DeviceError("NCCL: " + describe("ncclGetUniqueId", result, nullptr));
  }
  std::string hex;
  for (const char byte : id.internal) {
    hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  return hex;
}

NcclPair::NcclPair(const std::string& id, End end, int peer, std::chrono::milliseconds grace)
    : peer_(peer), grace_(grace) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.maxCTAs = kThreadBlocks;
  const ncclResult_t result =
      ncclCommInitRankConfig(&comm_, 2, id_from(id), static_cast<int>(end), &config);
  if (result == ncclSuccess || result == ncclInProgress) return;
  const std::string text = describe("ncclCommInitRankConfig", result, nullptr);
  abort();
  throw DeviceError(fmt::format("NCCL, with rank {}: {}", peer_, text));
}

NcclPair::~NcclPair() { abort(); }

void NcclPair::meet(Time until) {
  locked([&] { await("ncclCommInitRankConfig", ncclInProgress, until); });
}

void NcclPair::send(const void* data, std::size_t bytes, cudaStream_t stream,
                    std::optional<Time> until) {
  locked([&] {
    constexpr int kReceiver = static_cast<int>(End::receiver);
    await("ncclSend", ncclSend(data, bytes, ncclUint8, kReceiver, comm_, stream), until);
  });
}

void NcclPair::receive(void* data, std::size_t bytes, cudaStream_t stream,
                       std::optional<Time> until) {
  locked([&] {
    constexpr int kSender = static_cast<int>(End::sender);
    await("ncclRecv", ncclRecv(data, bytes, ncclUint8, kSender, comm_, stream), until);
  });
}

void NcclPair::check() {
  locked([&] {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked != ncclSuccess) fail("ncclCommGetAsyncError", asked);
    if (state != ncclSuccess && state != ncclInProgress) fail("under way", state);
  });
}

void NcclPair::give_up(const std::string& what) {
  locked([&] { throw CommError(fmt::format("NCCL: rank {} {}", peer_, what)); });
}

template <class Work>
void NcclPair::locked(const Work& work) {
  try {
    const std::lock_guard lock(mutex_);
    if (cause_) std::rethrow_exception(cause_);
    if (comm_ == nullptr) {
      throw CommError(fmt::format("NCCL: the way to rank {} was broken off", peer_));
    }
    try {
      work();
    } catch (...) {
      cause_ = std::current_exception();
      failed_ = true;
      throw;
    }
  } catch (const CommError&) {
    // Wait without the lock. If a rank died, its heartbeats or the launcher tell of it meanwhile.
    const Time until = steady_clock::now() + grace_;
    while (!aborting_ && steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    throw;
  }
}

void NcclPair::await(const char* call, ncclResult_t result, std::optional<Time> until) {
  const Backoff backoff(steady_clock::now());
  // Some versions return success before the message is on its stream, so ask. Failures of messages
  // under way are left to check().
  ncclResult_t state = ncclSuccess;
  if (result == ncclSuccess && ncclCommGetAsyncError(comm_, &state) == ncclSuccess &&
      state == ncclInProgress) {
    result = state;
  }
  while (result == ncclInProgress) {
    const Time now = steady_clock::now();
    if (aborting_) throw CommError(fmt::format("NCCL: {} to rank {} was broken off", call, peer_));
    if (until && now > *until) {
      throw CommError(fmt::format(
          "NCCL: {} has not found rank {} in time (comm.deadline_seconds); NCCL_DEBUG=INFO says "
          "what it tries",
          call, peer_));
    }
    std::this_thread::sleep_for(backoff.sleep(now, true));
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &result);
    if (asked != ncclSuccess) fail("ncclCommGetAsyncError", asked);
  }
  if (result != ncclSuccess) fail(call, result);
}

void NcclPair::fail(const char* call, ncclResult_t result) {
  const std::string text =
      fmt::format("NCCL, with rank {}: {}", peer_, describe(call, result, comm_));
  if (may_be_remote(result)) throw CommError(text);
  throw DeviceError(text);
}

void NcclPair::begin_close() noexcept {
  const std::lock_guard lock(mutex_);
  if (healthy()) closing_ = ncclCommFinalize(comm_);
}

void NcclPair::finish_close(Time until) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (healthy()) {
      try {
        await("ncclCommFinalize", closing_, until);
        ncclCommDestroy(comm_);
        comm_ = nullptr;
      } catch (...) {
        failed_ = true;
      }
    }
  }
  abort();
}

void NcclPair::abort() noexcept {
  aborting_ = true;
  const std::lock_guard lock(mutex_);
  if (comm_ != nullptr) ncclCommAbort(comm_);
  comm_ = nullptr;
}

}  // namespace sluice::comm
