#include "tests/support/cuda_emulation/block.h"

#include <algorithm>
#include <bit>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "tests/support/cuda_emulation/fiber.h"

namespace sluice::support {

CudaPlace cuda_place;
RunOrder run_order;

namespace {

constexpr unsigned kMostThreads = 1024;
constexpr unsigned kNone = ~0U;

}  // namespace

/// The threads of one block at a time, on fibers that are kept.
class BlockRunner {
 public:
  void seed(std::uint64_t seed) { random_.seed(seed); }
  void run(unsigned threads, const std::function<void()>& kernel);
  void meet_block();
  const Meeting& meet_warp(unsigned mask, const void* shown, std::size_t bytes, const char* what);

 private:
  enum class State { ready, at_barrier, in_warp, ended };
  struct Thread {
    State state = State::ready;
    Fiber* fiber = nullptr;  // null: has not begun
    unsigned mask = 0;
    const char* what = "";
    std::size_t bytes = 0;
    Meeting* meeting = nullptr;
    std::array<std::byte, kMeetingBytes> shown;
  };
  struct Warp {
    unsigned waiting = 0;  // lanes
    unsigned ended = 0;    // or never there
  };

  static void enter(boost::context::detail::transfer_t from);
  [[noreturn]] void run_threads(Fiber& self);
  void run_thread();
  void wait();
  void go_on_with(unsigned index, Resumption& from);
  void end_thread();
  void abandon(const std::string& why);

  unsigned choose();
  unsigned first_ready(unsigned from) const;
  unsigned last_ready() const;
  void set_ready(unsigned index);
  void try_open_barrier();
  void try_open(unsigned warp, unsigned mask);
  void leave_meeting(Thread& thread);

  Fiber* take_fiber();

  const std::function<void()>* kernel_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::array<std::uint64_t, kMostThreads / 64> ready_ = {};
  unsigned current_ = 0;
  unsigned at_barrier_ = 0;
  unsigned ended_ = 0;
  std::mt19937_64 random_;
  std::exception_ptr failure_;

  Resumption main_;
  Fiber* starting_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> free_fibers_;
  std::vector<std::unique_ptr<Meeting>> meetings_;
  std::vector<Meeting*> free_meetings_;
};

namespace {

constexpr std::size_t kSharedAlignment = 128;

/// Of one block; bytes past its end are watched.
class SharedMemory {
 public:
  void prepare(std::size_t bytes) {
    bytes_ = bytes;
    memory_.assign(bytes + 2 * kSharedAlignment, std::byte{0xFF});  // NaN in every dtype
  }
  std::byte* data() {
    std::byte* const first = memory_.data();
    const std::size_t over = reinterpret_cast<std::uintptr_t>(first) % kSharedAlignment;
    return first + (kSharedAlignment - over) % kSharedAlignment;
  }
  void check() {
    const std::byte* const end = memory_.data() + memory_.size();
    if (std::any_of<const std::byte*>(data() + bytes_, end,
                                      [](std::byte byte) { return byte != std::byte{0xFF}; })) {
      throw std::logic_error("a block writes past its dynamic shared memory");
    }
  }

 private:
  std::size_t bytes_ = 0;
  std::vector<std::byte> memory_;
};

struct Grid {
  std::mutex mutex;
  BlockRunner runner;
  SharedMemory shared;
};

/// Never destroyed: a host thread may still be in a kernel when the program ends.
Grid& grid() {
  static Grid* const one = new Grid;
  return *one;
}

}  // namespace

void BlockRunner::run(unsigned threads, const std::function<void()>& kernel) {
  if (threads == 0 || threads > kMostThreads) {
    throw std::logic_error("a block has 1 to 1024 threads, not " + std::to_string(threads));
  }
  kernel_ = &kernel;
  threads_.assign(threads, {});
  warps_.assign((threads + kWarp - 1) / kWarp, {});
  if (threads % kWarp != 0) warps_.back().ended = ~0U << threads % kWarp;
  ready_.fill(0);
  for (unsigned i = 0; i < threads; ++i) set_ready(i);
  at_barrier_ = 0;
  ended_ = 0;
  failure_ = nullptr;
  go_on_with(choose(), main_);
  if (!failure_) return;
  // What the threads had on their stacks is left as it is.
  free_fibers_.clear();
  for (const auto& fiber : fibers_) {
    fiber->prepare(&BlockRunner::enter);
    free_fibers_.push_back(fiber.get());
  }
  free_meetings_.clear();
  for (const auto& meeting : meetings_) free_meetings_.push_back(meeting.get());
  std::rethrow_exception(failure_);
}

/// Stops the one that runs, if any, and lets thread `index` begin or go on.
void BlockRunner::go_on_with(unsigned index, Resumption& from) {
  Thread& thread = threads_[index];
  current_ = index;
  if (thread.fiber == nullptr) thread.fiber = take_fiber();
  starting_ = thread.fiber;
  switch_to(from, thread.fiber->resumption);
}

Fiber* BlockRunner::take_fiber() {
  if (free_fibers_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>());
    fibers_.back()->prepare(&BlockRunner::enter);
    free_fibers_.push_back(fibers_.back().get());
  }
  Fiber* const fiber = free_fibers_.back();
  free_fibers_.pop_back();
  return fiber;
}

void BlockRunner::enter(boost::context::detail::transfer_t from) {
  arrive(from);
  BlockRunner& runner = grid().runner;
  runner.run_threads(*runner.starting_);
}

void BlockRunner::run_threads(Fiber& self) {
  for (;;) {
    run_thread();
    const unsigned next = failure_ ? kNone : choose();
    if (next != kNone && threads_[next].fiber == nullptr) {
      current_ = next;
      threads_[next].fiber = &self;
      continue;  // no switch
    }
    free_fibers_.push_back(&self);
    if (next != kNone) {
      go_on_with(next, self.resumption);
    } else {
      if (ended_ != threads_.size() && !failure_) abandon("wait for each other for ever");
      switch_to(self.resumption, main_);
    }
  }
}

void BlockRunner::run_thread() {
  cuda_place.thread.x = current_;
  try {
    (*kernel_)();
    end_thread();
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void BlockRunner::end_thread() {
  Thread& thread = threads_[current_];
  thread.state = State::ended;
  leave_meeting(thread);
  ++ended_;
  const unsigned number = current_ / kWarp;
  Warp& warp = warps_[number];
  warp.ended |= 1U << current_ % kWarp;
  try_open_barrier();
  // Lanes may have waited for this one alone.
  for (unsigned lanes = warp.waiting; lanes != 0; lanes &= lanes - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(lanes));
    const unsigned index = number * kWarp + lane;
    if (threads_[index].state == State::in_warp) try_open(number, threads_[index].mask);
  }
}

void BlockRunner::abandon(const std::string& why) {
  failure_ = std::make_exception_ptr(std::logic_error("the threads of a block " + why));
}

/// The thread that runs stops until it is ready again.
void BlockRunner::wait() {
  const unsigned self = current_;
  const unsigned next = choose();
  if (next == kNone) {
    abandon("wait for each other for ever");
    switch_to(threads_[self].fiber->resumption, main_);
  } else if (next != self) {
    go_on_with(next, threads_[self].fiber->resumption);
  }
  current_ = self;
  cuda_place.thread.x = self;
}

void BlockRunner::set_ready(unsigned index) {
  threads_[index].state = State::ready;
  ready_[index / 64] |= std::uint64_t{1} << index % 64;
}

unsigned BlockRunner::first_ready(unsigned from) const {
  for (unsigned word = from / 64; word < ready_.size(); ++word) {
    const std::uint64_t bits =
        word == from / 64 ? ready_[word] & ~std::uint64_t{0} << from % 64 : ready_[word];
    if (bits != 0) return word * 64 + static_cast<unsigned>(std::countr_zero(bits));
  }
  return kNone;
}

unsigned BlockRunner::last_ready() const {
  for (unsigned word = static_cast<unsigned>(ready_.size()); word-- > 0;) {
    if (ready_[word] != 0) {
      return word * 64 + 63 - static_cast<unsigned>(std::countl_zero(ready_[word]));
    }
  }
  return kNone;
}

/// Takes a thread from those that are ready; kNone: there is none.
unsigned BlockRunner::choose() {
  unsigned chosen = kNone;
  if (run_order.kind == RunOrder::Kind::descending) {
    chosen = last_ready();
  } else {
    if (run_order.kind == RunOrder::Kind::shuffled) {
      chosen = first_ready(static_cast<unsigned>(random_() % threads_.size()));
    }
    if (chosen == kNone) chosen = first_ready(0);
  }
  if (chosen != kNone) ready_[chosen / 64] &= ~(std::uint64_t{1} << chosen % 64);
  return chosen;
}

void BlockRunner::meet_block() {
  Thread& self = threads_[current_];
  leave_meeting(self);
  self.state = State::at_barrier;
  ++at_barrier_;
  try_open_barrier();
  wait();
}

void BlockRunner::try_open_barrier() {
  if (at_barrier_ == 0 || at_barrier_ + ended_ != threads_.size()) return;
  for (unsigned i = 0; i < threads_.size(); ++i) {
    if (threads_[i].state == State::at_barrier) set_ready(i);
  }
  at_barrier_ = 0;
}

const Meeting& BlockRunner::meet_warp(unsigned mask, const void* shown, std::size_t bytes,
                                      const char* what) {
  Thread& self = threads_[current_];
  const unsigned lane = current_ % kWarp;
  const unsigned warp = current_ / kWarp;
  if ((mask >> lane & 1U) == 0) {
    throw std::logic_error(std::string(what) + ": the mask leaves out the lane that calls");
  }
  leave_meeting(self);
  self.state = State::in_warp;
  self.mask = mask;
  self.what = what;
  self.bytes = bytes;
  if (bytes != 0) std::memcpy(self.shown.data(), shown, bytes);
  warps_[warp].waiting |= 1U << lane;
  try_open(warp, mask);
  wait();
  return *self.meeting;
}

/// Lets the lanes of `mask` go on if all are there.
void BlockRunner::try_open(unsigned warp, unsigned mask) {
  const unsigned lanes = mask & ~warps_[warp].ended;
  if ((warps_[warp].waiting & lanes) != lanes) return;
  const unsigned first = warp * kWarp;
  const Thread& one = threads_[first + static_cast<unsigned>(std::countr_zero(lanes))];
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const Thread& thread = threads_[first + static_cast<unsigned>(std::countr_zero(rest))];
    if (thread.mask != mask) return;
    const bool same = thread.what == one.what || std::strcmp(thread.what, one.what) == 0;
    if (!same || thread.bytes != one.bytes) {
      throw std::logic_error(std::string("lanes of one warp meet in ") + one.what + " and " +
                             thread.what + ": undefined on a GPU");
    }
  }
  if (free_meetings_.empty()) {
    meetings_.push_back(std::make_unique<Meeting>());
    free_meetings_.push_back(meetings_.back().get());
  }
  Meeting* const meeting = free_meetings_.back();
  free_meetings_.pop_back();
  meeting->lanes_ = lanes;
  meeting->readers_ = static_cast<unsigned>(std::popcount(lanes));
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(rest));
    Thread& thread = threads_[first + lane];
    std::memcpy(meeting->shown_[lane].data(), thread.shown.data(), thread.bytes);
    thread.meeting = meeting;
    set_ready(first + lane);
  }
  warps_[warp].waiting &= ~lanes;
}

void BlockRunner::leave_meeting(Thread& thread) {
  if (thread.meeting == nullptr) return;
  if (--thread.meeting->readers_ == 0) free_meetings_.push_back(thread.meeting);
  thread.meeting = nullptr;
}

void meet_block() { grid().runner.meet_block(); }

const Meeting& meet_warp(unsigned mask, const void* shown, std::size_t bytes, const char* what) {
  return grid().runner.meet_warp(mask, shown, bytes, what);
}

std::byte* dynamic_shared_memory() { return grid().shared.data(); }

void launch_on_host(Dim3 blocks, unsigned threads, std::size_t shared_bytes,
                    const std::function<void()>& kernel) {
  const std::lock_guard lock(grid().mutex);
  BlockRunner& runner = grid().runner;
  runner.seed(run_order.seed);
  cuda_place.threads = {threads, 1, 1};
  cuda_place.blocks = blocks;
  std::vector<std::uint64_t> order(std::size_t{blocks.x} * blocks.y * blocks.z);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  if (run_order.kind == RunOrder::Kind::descending) std::reverse(order.begin(), order.end());
  if (run_order.kind == RunOrder::Kind::shuffled) {
    std::shuffle(order.begin(), order.end(), std::mt19937_64(run_order.seed));
  }
  for (const std::uint64_t block : order) {
    cuda_place.block = {static_cast<unsigned>(block % blocks.x),
                        static_cast<unsigned>(block / blocks.x % blocks.y),
                        static_cast<unsigned>(block / blocks.x / blocks.y)};
    grid().shared.prepare(shared_bytes);
    runner.run(threads, kernel);
    grid().shared.check();
  }
}

}  // namespace sluice::support
