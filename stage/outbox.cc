#include "stage/outbox.h"

namespace sluice::stage {

Outbox::Outbox(Backend& backend, OutboxHandler& handler, std::size_t capacity)
    : backend_(backend), handler_(handler), ring_(capacity) {
  thread_ = std::thread([this] { work(); });
}

Outbox::~Outbox() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Outbox::Ticket Outbox::post(const OutboxItem& item) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return posted_ - handled_ < ring_.size() || failed_; });
  ring_[posted_ % ring_.size()] = item;
  const Ticket ticket{++posted_, item.ready};
  lock.unlock();
  changed_.notify_all();
  return ticket;
}

void Outbox::wait(const Ticket& ticket) {
  if (ticket.number == 0) return;
  if (await(ticket.number)) backend_.synchronize(ticket.ready);
}

void Outbox::wait_all() { await(posted_); }

bool Outbox::await(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this, number] { return handled_ >= number || failed_; });
  return handled_ >= number;
}

void Outbox::work() {
  for (;;) {
    OutboxItem item;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return posted_ > handled_ || stopping_; });
      if (posted_ == handled_) return;
      item = ring_[handled_ % ring_.size()];
    }
    try {
      backend_.synchronize(item.ready);
      handler_.handle(item.what);
    } catch (...) {
      {
        const std::lock_guard lock(mutex_);
        failed_ = true;
      }
      changed_.notify_all();
      handler_.failed(std::current_exception());
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      ++handled_;
    }
    changed_.notify_all();
  }
}

}  // namespace sluice::stage
