#include "kernels/device/cpu_backend.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

namespace sluice {

namespace {

void copy_at(RateLimit& limit, void* target, const void* source, std::size_t bytes) {
  auto* to = static_cast<std::byte*>(target);
  const auto* from = static_cast<const std::byte*>(source);
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t piece = std::min(limit.piece_bytes(), bytes - done);
    const Clock::time_point begin = Clock::now();
    std::memcpy(to + done, from + done, piece);
    const Clock::time_point end = limit.end_of(piece, begin);
    if (end - Clock::now() >= RateLimit::kLeastSleep) std::this_thread::sleep_until(end);
    limit.resumed(Clock::now());
    done += piece;
  }
}

}  // namespace

CpuBackend::CpuBackend(BackendInfo info, Trace* trace, const CopyLimits& limits)
    : info_(std::move(info)),
      trace_(trace),
      to_device_(limits.host_to_device_gbps),
      to_host_(limits.device_to_host_gbps) {
  for (std::size_t index = 0; index < queues_.size(); ++index) {
    const Lane lane = static_cast<Lane>(index);
    // Beside a device with its own memory only one lane works here. Idle time of the other lanes
    // means nothing.
    const bool works = info_.device_bytes == 0 || lane == Lane::host_compute;
    queues_[index] = std::make_unique<LaneQueue>(name_of(lane), activity_of(lane),
                                                 works ? trace : nullptr, failure_);
  }
}

CpuBackend::~CpuBackend() {
  // End all threads before any queue is destroyed: a lane may still wait for another lane's ticket.
  for (const auto& lane_queue : queues_) lane_queue->finish();
}

Memory CpuBackend::allocate_device(std::size_t bytes) { return map_memory(bytes, "device memory"); }

Memory CpuBackend::allocate_host(std::size_t bytes, bool /*pinned: there is no DMA engine*/) {
  return map_memory(bytes, "host memory");
}

void CpuBackend::copy(Lane lane, void* target, const void* source, std::size_t bytes) {
  if (bytes == 0) return;
  if (target == nullptr || source == nullptr) {
    throw DeviceError(fmt::format("copy of {} bytes on lane '{}' {} a null address", bytes,
                                  name_of(lane), target == nullptr ? "to" : "from"));
  }
  struct Copy {
    void* target;
    const void* source;
    std::size_t bytes;
    Trace* trace;
    Activity activity;
    RateLimit* limit;
    void operator()() const {
      if (limit == nullptr) {
        std::memcpy(target, source, bytes);
      } else {
        copy_at(*limit, target, source, bytes);
      }
      if (trace != nullptr) trace->add_bytes(activity, bytes);
    }
  };
  queue(lane).put(Copy{target, source, bytes, trace_, activity_of(lane), limit_of(lane)});
}

RateLimit* CpuBackend::limit_of(Lane lane) {
  RateLimit* const limit = lane == Lane::host_to_device   ? &to_device_
                           : lane == Lane::device_to_host ? &to_host_
                                                          : nullptr;
  return limit != nullptr && limit->limits() ? limit : nullptr;
}

void CpuBackend::call(Lane lane, void (*function)(void*), void* argument) {
  queue(lane).put([function, argument] { function(argument); });
}

Event CpuBackend::record(Lane lane) { return {lane, queue(lane).last()}; }

void CpuBackend::wait(Lane lane, Event event) {
  check(event);
  const Activity why =
      lane == Lane::compute ? stall_reason_.take(event.lane) : Activity::stall_other;
  if (event.lane == lane || done(event)) return;
  LaneQueue* awaited = &queue(event.lane);
  const std::uint64_t ticket = event.ticket;
  Trace* const trace = lane == Lane::compute ? trace_ : nullptr;
  queue(lane).put(
      [awaited, ticket, why, trace] {
        if (trace == nullptr || awaited->done(ticket)) return awaited->wait(ticket);
        trace->begin_stall();
        awaited->wait(ticket);
        trace->end_stall(why);
      },
      LaneQueue::Account::waiting);
}

bool CpuBackend::done(Event event) { return queue(event.lane).done(event.ticket); }

void CpuBackend::synchronize(Event event) {
  check(event);
  queue(event.lane).wait(event.ticket);
  failure_.rethrow();
}

void CpuBackend::drain(Lane lane) { queue(lane).wait(queue(lane).last()); }

void CpuBackend::check(Event event) {
  if (event.ticket <= queue(event.lane).last()) return;
  throw DeviceError(
      fmt::format("event {} of lane '{}' was never recorded: the lane has {} tasks so far; wait "
                  "only for events "
                  "that record() of the same backend returned",
                  event.ticket, name_of(event.lane), queue(event.lane).last()));
}

}  // namespace sluice
