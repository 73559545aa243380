// The threads that the two computing lanes of the CPU backend share.
//
// A lane's own thread always works on its own loop; the pool's helpers join whichever loop is open.
// So a loop never waits for a helper that is busy elsewhere, and one thread needs no helper at all.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace sluice::kernels {

class ThreadPool {
 public:
  static constexpr int kClients = 2;  // the computing lanes

  /// `threads` >= 1, the caller of a loop included. Throws DeviceError without threads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  /// Worker numbers are in [0, workers()): the clients, then the helpers.
  int workers() const { return threads_ - 1 + kClients; }

  /// Runs body(index, worker) for every index of [0, count), in any order and on any of the
  /// threads, and returns when all are done. `body` must not throw. One loop per client at a time.
  template <class Body>
  void parallel_for(int client, std::int64_t count, const Body& body) {
    run(client, count, &body, [](const void* context, std::int64_t index, int worker) {
      (*static_cast<const Body*>(context))(index, worker);
    });
  }

 private:
  using Call = void (*)(const void* context, std::int64_t index, int worker);
  struct alignas(64) Loop {
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> open{false};
    std::atomic<std::int32_t> guests{0};  // helpers that may be reading the fields below
    std::int64_t count = 0;
    const void* context = nullptr;
    Call call = nullptr;
  };

  void run(int client, std::int64_t count, const void* context, Call call);
  static void work(Loop& loop, int worker);
  bool help(int worker);
  void serve(int worker);
  void await_change(std::uint32_t seen);
  void stop();

  int threads_;
  std::array<Loop, kClients> loops_;
  alignas(64) std::atomic<std::uint32_t> opened_{0};  // loops opened so far
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> helpers_;
};

/// Cores this process may use, shared by `ranks_on_host` ranks; at least 1. (The launcher knows
/// better: it looks at which cores each of them may use.)
int default_threads(int ranks_on_host);

}  // namespace sluice::kernels
