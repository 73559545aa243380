// The weight stream in virtual time: which group is read from disk and copied to the device next,
// and whether it may begin. Arithmetic over the ring (offload/weights/weight_ring.h). A part of
// SimulatedStage.
//
// Item n is the n-th group that is streamed, counted for ever: the stream runs ahead of the passes
// that name it.
#pragma once

#include <cstdint>
#include <deque>

#include "stage/schedule.h"

namespace sluice::launcher {

class SimulatedWeights {
 public:
  /// The tasks that stand for an item in the schedule of its pass.
  struct ItemTasks {
    std::int64_t pass = -1;
    std::int32_t read = -1;  // none: nothing of it is on disk
    std::int32_t load = -1;
  };

  /// `shape` must outlive it.
  explicit SimulatedWeights(const stage::ScheduleShape& shape) : shape_(shape) {}

  /// Of the next item that a schedule names.
  void name(const ItemTasks& tasks) { tasks_.push_back(tasks); }
  /// Tasks that are done, if there are any that the last call did not say: `done(pass, task)`.
  template <typename Done>
  void tell_done(const Done& done) {
    for (; told_read_ < read_ && has_tasks(told_read_); ++told_read_) {
      const ItemTasks& item = tasks_of(told_read_);
      if (item.read >= 0) done(item.pass, item.read);
    }
    for (; told_loaded_ < loaded_ && has_tasks(told_loaded_); ++told_loaded_) {
      done(tasks_of(told_loaded_).pass, tasks_of(told_loaded_).load);
    }
    for (; first_ < told_loaded_ && first_ < told_read_; ++first_) tasks_.pop_front();
  }

  /// The executor comes to the await of the next item's lease. False: its copies cannot be put on
  /// their lane yet; ask again.
  bool may_lease();
  void lease() { ++leased_; }
  void release() { ++released_; }

  /// The group to be read next, if it may begin; -1: none.
  std::int32_t next_read();
  void begin_read() { reading_ = true; }
  void end_read();
  /// The group to be copied next, if it may begin; -1: none.
  std::int32_t next_load();
  void begin_load() { ++loading_; }
  void end_load() { ++loaded_; }
  std::int64_t items_read() const { return read_; }

 private:
  bool has_tasks(std::int64_t item) const {
    return item < first_ + static_cast<std::int64_t>(tasks_.size());
  }
  const ItemTasks& tasks_of(std::int64_t item) const {
    return tasks_[static_cast<std::size_t>(item - first_)];
  }
  std::int32_t group_of(std::int64_t item) const {
    return static_cast<std::int32_t>(shape_.ring.group_of(static_cast<std::uint64_t>(item)));
  }
  bool is_on_disk(std::int64_t item) const {
    return shape_.groups[static_cast<std::size_t>(group_of(item))].on_disk;
  }
  bool is_turn(std::int64_t item) const {
    return shape_.overlaps || released_ >= item || wanted_ > item;
  }
  void pass_over_host_items();

  const stage::ScheduleShape& shape_;
  std::deque<ItemTasks> tasks_;  // from item first_ on
  std::int64_t first_ = 0;
  std::int64_t told_read_ = 0, told_loaded_ = 0;
  std::int64_t leased_ = 0;    // items that the executor came to
  std::int64_t released_ = 0;  // ... that nothing reads any more
  std::int64_t wanted_ = 0;    // without overlap: items before this one are asked for
  std::int64_t read_ = 0, loading_ = 0, loaded_ = 0;
  bool reading_ = false;
};

}  // namespace sluice::launcher
