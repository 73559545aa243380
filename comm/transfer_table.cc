#include "comm/transfer_table.h"

#include <fmt/format.h>

#include <limits>

namespace sluice::comm {

namespace {

constexpr std::int32_t kGenerations =
    std::numeric_limits<std::int32_t>::max() / TransferTable::kCapacity;

}  // namespace

const char* name_of(Route route) {
  switch (route) {
    case Route::passes:
      return "passes";
    case Route::hidden:
      return "hidden";
    case Route::results:
      return "results";
  }
  return "?";
}

TransferTable::TransferTable() {
  // The lowest slot is lent first, so that few cache lines are touched when few messages are out.
  for (int i = 0; i < kCapacity; ++i) {
    free_[static_cast<std::size_t>(i)] = static_cast<std::int16_t>(kCapacity - 1 - i);
  }
}

Transfer TransferTable::open(const Message& message) {
  const std::lock_guard lock(mutex_);
  if (failed_) throw CommError(cause_);
  if (free_count_ == 0) {
    throw Error(ExitStatus::failure,
                fmt::format("More than {} messages are under way on one rank; lower "
                            "batching.num_gpu_batches or batching.micro_batches.",
                            kCapacity));
  }
  const int index = free_[static_cast<std::size_t>(--free_count_)];
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  slot.message = message;
  slot.transferred_bytes = 0;
  slot.state.store(kOpen, std::memory_order_release);
  return Transfer{slot.generation * kCapacity + index};
}

void TransferTable::complete(int index, std::size_t bytes) {
  Slot& slot = slots_[static_cast<std::size_t>(index)];
  slot.transferred_bytes = bytes;
  // Read before the slot is complete: its owner may give it back, and it may be taken again, then.
  const bool received = !slot.message.sending;
  const Route route = slot.message.route;
  std::uint32_t expected = kOpen;
  if (slot.state.compare_exchange_strong(expected, kComplete, std::memory_order_acq_rel)) {
    slot.state.notify_all();
    if (received) ring(route);
  }
}

void TransferTable::ring_for(Route route, Bell* bell) {
  const std::lock_guard lock(bells_mutex_);
  bells_[static_cast<std::size_t>(route)] = bell;
}

void TransferTable::ring(Route route) {
  const std::lock_guard lock(bells_mutex_);
  if (Bell* bell = bells_[static_cast<std::size_t>(route)]) bell->ring();
}

void TransferTable::fail(const std::string& sentence) {
  const std::lock_guard lock(mutex_);
  if (failed_) return;
  cause_ = sentence;
  failed_ = true;
  for (Slot& slot : slots_) {
    std::uint32_t expected = kOpen;
    if (slot.state.compare_exchange_strong(expected, kFailed)) slot.state.notify_all();
  }
  for (int route = 0; route < kRouteCount; ++route) ring(static_cast<Route>(route));
}

void TransferTable::throw_if_failed() const {
  if (!failed_) return;
  const std::lock_guard lock(mutex_);
  throw CommError(cause_);
}

bool TransferTable::done(Transfer transfer, std::size_t* received_bytes) {
  throw_if_failed();
  Slot& slot = slot_for(transfer);
  if (slot.state.load(std::memory_order_acquire) == kOpen) return false;
  const std::size_t bytes = release(slot);
  if (received_bytes != nullptr) *received_bytes = bytes;
  return true;
}

std::size_t TransferTable::wait(Transfer transfer) {
  throw_if_failed();
  Slot& slot = slot_for(transfer);
  slot.state.wait(kOpen, std::memory_order_acquire);
  return release(slot);
}

TransferTable::Slot& TransferTable::slot_for(Transfer transfer) {
  const std::lock_guard lock(mutex_);
  if (transfer.index >= 0) {
    Slot& slot = slots_[static_cast<std::size_t>(slot_of(transfer))];
    if (slot.generation == transfer.index / kCapacity && slot.state.load() != kFree) return slot;
  }
  throw Error(ExitStatus::failure,
              fmt::format("Transfer {} is not under way: it was never started or was already seen "
                          "complete; this is a bug of sluice.",
                          transfer.index));
}

std::size_t TransferTable::release(Slot& slot) {
  const std::lock_guard lock(mutex_);
  if (failed_) throw CommError(cause_);
  const std::size_t bytes = slot.transferred_bytes;
  slot.generation = (slot.generation + 1) % kGenerations;
  slot.state.store(kFree, std::memory_order_release);
  free_[static_cast<std::size_t>(free_count_++)] = static_cast<std::int16_t>(&slot - slots_.data());
  return bytes;
}

void check_peer(int peer, int size) {
  if (peer >= 0 && peer < size) return;
  throw Error(ExitStatus::failure,
              fmt::format("A message was addressed to rank {} of a job of {} ranks; this is a bug "
                          "of sluice.",
                          peer, size));
}

}  // namespace sluice::comm
