#include "comm/nccl/nccl_channel.h"

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <thread>

#include "kernels/device/error.h"

namespace sluice::comm {

namespace {

using std::chrono::steady_clock;

constexpr std::size_t kGreetingBytes = sizeof(std::int64_t);
constexpr std::size_t kGreetingSpace = 256;  // between what comes and what goes: aligned

}  // namespace

NcclChannel::NcclChannel(const NcclEnds& ends)
    : backend_(*ends.backend), rank_(ends.rank), deadline_(ends.deadline) {
  if (stream(Lane::send) == nullptr || stream(Lane::receive) == nullptr) {
    throw DeviceError("NCCL: this device has no streams for messages");
  }
  greeting_ = backend_.allocate_device(2 * kGreetingSpace);
  const Time until = steady_clock::now() + deadline_;
  if (ends.from_previous != nullptr) {
    in_.emplace(*ends.from_previous, NcclPair::End::receiver, rank_ - 1, ends.grace);
  }
  if (ends.to_next != nullptr) {
    out_.emplace(*ends.to_next, NcclPair::End::sender, rank_ + 1, ends.grace);
  }
  // Begin both ends before waiting for one, so that no rank waits for the whole row of ranks.
  if (in_) in_->meet(until);
  if (out_) out_->meet(until);
  greet(until);
}

NcclChannel::~NcclChannel() {
  const bool healthy = std::uncaught_exceptions() <= exceptions_ && (!in_ || in_->healthy()) &&
                       (!out_ || out_->healthy());
  if (!healthy) {
    abort();
    return;
  }
  const Time until = steady_clock::now() + deadline_;
  if (in_) in_->begin_close();
  if (out_) out_->begin_close();
  if (in_) in_->finish_close(until);
  if (out_) out_->finish_close(until);
}

void NcclChannel::greet(Time until) {
  const std::int64_t own = rank_;
  std::byte* const going = greeting_.data() + kGreetingSpace;
  // This goes from the first rank to the last: each rank needs the previous one's send.
  if (in_) in_->receive(greeting_.data(), kGreetingBytes, stream(Lane::receive), until);
  if (out_) {
    backend_.copy(Lane::send, going, &own, kGreetingBytes);
    out_->send(going, kGreetingBytes, stream(Lane::send), until);
    await(backend_.record(Lane::send), *out_, until);
  }
  if (!in_) return;
  await(backend_.record(Lane::receive), *in_, until);
  std::int64_t previous = -1;
  backend_.copy(Lane::receive, &previous, greeting_.data(), kGreetingBytes);
  backend_.synchronize(backend_.record(Lane::receive));
  if (previous == rank_ - 1) return;
  throw CommError(fmt::format("NCCL: rank {} was to be heard and {} was", rank_ - 1, previous));
}

void NcclChannel::await(Event event, NcclPair& pair, Time until) {
  while (!backend_.done(event)) {
    pair.check();
    if (steady_clock::now() > until) {
      pair.give_up("has not taken part in the first message in time (comm.deadline_seconds)");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void NcclChannel::send(const void* data, std::size_t bytes) {
  if (bytes > 0) out_.value().send(data, bytes, stream(Lane::send));
}

void NcclChannel::receive(void* data, std::size_t bytes) {
  if (bytes > 0) in_.value().receive(data, bytes, stream(Lane::receive));
}

void NcclChannel::check() {
  if (in_) in_->check();
  if (out_) out_->check();
}

void NcclChannel::abort() noexcept {
  if (in_) in_->abort();
  if (out_) out_->abort();
}

int sluice_nccl_abi() noexcept { return kNcclAbi; }

void sluice_nccl_make_id(std::string* id) { *id = make_nccl_id(); }

void sluice_nccl_connect(const NcclEnds* ends, std::unique_ptr<DeviceChannel>* channel) {
  *channel = std::make_unique<NcclChannel>(*ends);
}

}  // namespace sluice::comm
