#include "kernels/cpu/thread_pool.h"

#include <hwy/cache_control.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>

#include "kernels/device/error.h"

namespace sluice::kernels {

namespace {

/// How long a thread looks for work, or for the last helper, before it sleeps. Waking one costs 15
/// microseconds, and decoding a small model opens a hundred loops a token, a few microseconds
/// apart: sleeping in between cost an eighth of its speed. What a thread burns when there is no
/// more work is this, once.
constexpr std::chrono::microseconds kPatience(50);

/// Returns true as soon as `done` is true, false when the time is up.
template <class Done>
bool spin_until(const Done& done) {
  using Clock = std::chrono::steady_clock;
  constexpr int kPausesPerLook = 32;  // at the clock
  const auto end = Clock::now() + kPatience;
  do {
    for (int pause = 0; pause < kPausesPerLook; ++pause) {
      if (done()) return true;
      hwy::Pause();
    }
  } while (Clock::now() < end);
  return false;
}

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  if (threads < 1) throw DeviceError("a thread pool of no threads; threads must be at least 1");
  helpers_.reserve(static_cast<std::size_t>(threads - 1));
  try {
    for (int helper = 0; helper < threads - 1; ++helper) {
      helpers_.emplace_back([this, helper] { serve(kClients + helper); });
    }
  } catch (const std::system_error& error) {
    stop();
    throw DeviceError("cannot start " + std::to_string(threads) +
                      " compute threads: " + error.what() +
                      "; lower threads, or raise the limit of processes (ulimit -u)");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_.store(true);
  opened_.fetch_add(1);
  opened_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run(int client, std::int64_t count, const void* context, Call call) {
  if (count <= 1 || helpers_.empty()) {
    for (std::int64_t index = 0; index < count; ++index) call(context, index, client);
    return;
  }
  Loop& loop = loops_[static_cast<std::size_t>(client)];
  loop.count = count;
  loop.context = context;
  loop.call = call;
  loop.next.store(0);
  loop.open.store(true);
  opened_.fetch_add(1);
  opened_.notify_all();
  work(loop, client);
  // A guest announces itself before it looks whether the loop is open; so whoever is not counted
  // here finds it closed, and the fields may change.
  loop.open.store(false);
  if (spin_until([&] { return loop.guests.load() == 0; })) return;
  for (std::int32_t guests = loop.guests.load(); guests != 0; guests = loop.guests.load()) {
    loop.guests.wait(guests);
  }
}

void ThreadPool::work(Loop& loop, int worker) {
  for (std::int64_t index = loop.next.fetch_add(1); index < loop.count;
       index = loop.next.fetch_add(1)) {
    loop.call(loop.context, index, worker);
  }
}

bool ThreadPool::help(int worker) {
  bool helped = false;
  for (Loop& loop : loops_) {
    if (!loop.open.load()) continue;
    loop.guests.fetch_add(1);
    if (loop.open.load() && loop.next.load() < loop.count) {
      work(loop, worker);
      helped = true;
    }
    if (loop.guests.fetch_sub(1) == 1) loop.guests.notify_all();
  }
  return helped;
}

void ThreadPool::serve(int worker) {
  while (true) {
    const std::uint32_t seen = opened_.load();  // before the looks: what comes later wakes us
    if (stopping_.load()) return;
    if (!help(worker)) await_change(seen);
  }
}

void ThreadPool::await_change(std::uint32_t seen) {
  const auto changed = [&] { return opened_.load(std::memory_order_relaxed) != seen; };
  if (!spin_until(changed)) opened_.wait(seen);
}

int default_threads(int ranks_on_host) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  // Fails only where there are more processors than the mask has bits.
  const bool known = sched_getaffinity(0, sizeof(mask), &mask) == 0;
  const int cores =
      known ? CPU_COUNT(&mask) : static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, cores / std::max(1, ranks_on_host));
}

}  // namespace sluice::kernels
