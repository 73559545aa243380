// The disk tier of the KV cache when the disk fails, or is slow and out of order.
#include "offload/kv/kv_disk.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "kernels/device/error.h"
#include "tests/support/faulty_disk.h"
#include "tests/support/kv_workload.h"
#include "tests/support/shuffled_engine.h"

namespace sluice::support {
namespace {

using offload::DiskEngine;
using offload::FileId;
using offload::IoGroup;
using offload::KvShape;
using offload::Policy;

KvShape small_shape(std::int32_t layers) {
  KvShape shape;
  shape.layers = layers;
  shape.gpu_batch_size = 2;
  shape.slots = 2;
  shape.tokens_per_slot = 9;
  shape.tokens_per_gpu_batch = 8;
  shape.query_heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 4;
  shape.page_tokens = 2;
  return shape;
}

Policy on_disk() {
  Policy policy;
  policy.cache = {0, 0, 100};
  return policy;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(KvDisk, EveryFailingRequestIsAnErrorAndNeverAWrongNumber) {
  const KvShape shape = small_shape(2);
  const KvWorkload work = make_kv_workload(shape, 1, 8, 21);
  FaultyDisk counted(DiskEngine::make({.allow_io_uring = false}));
  KvRig sound(make_shuffled_engine(1), shape, on_disk(), &counted);
  const std::vector<float> wanted = run_kv_workload(sound, work, KvPrefetch::ahead);
  ASSERT_GT(counted.requests(), 20);
  std::int64_t raised = 0;
  for (std::int64_t k = 0; k < counted.requests(); ++k) {
    const bool no_space = k % 2 == 1;
    FaultyDisk disk(DiskEngine::make({.allow_io_uring = false}));
    KvRig rig(make_shuffled_engine(1), shape, on_disk(), &disk);
    disk.fail_request(k, no_space);
    try {
      EXPECT_TRUE(same_bits(run_kv_workload(rig, work, KvPrefetch::ahead), wanted)) << k;
    } catch (const IoError& error) {
      EXPECT_STREQ(error.what(), "injected failure");
      EXPECT_FALSE(no_space);
      ++raised;
    } catch (const CapacityError&) {
      EXPECT_TRUE(no_space);
      ++raised;
    }
  }
  // Pages of the last passes are written and never needed again: their loss harms nobody.
  EXPECT_GE(raised, counted.requests() - 8);
}

/// Does each request some milliseconds late, the youngest first. Correct code cannot tell.
class ContraryDisk : public DiskEngine {
 public:
  ContraryDisk() : real_(DiskEngine::make({.allow_io_uring = false})), thread_([this] { run(); }) {}
  ~ContraryDisk() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  std::string description() const override { return "contrary"; }
  FileId open_read(const std::filesystem::path& path) override { return real_->open_read(path); }
  FileId open_read_checked(const std::filesystem::path& path,
                           std::span<const std::uint32_t> sums) override {
    return real_->open_read_checked(path, sums);
  }
  std::uint64_t checksum_bytes() const override { return real_->checksum_bytes(); }
  FileId create(const std::filesystem::path& path, std::uint64_t bytes) override {
    return real_->create(path, bytes);
  }
  void read(FileId file, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup& group) override {
    put({file, offset, bytes, target, nullptr, &group});
  }
  void write(FileId file, std::uint64_t offset, std::size_t bytes, const void* source,
             IoGroup& group) override {
    put({file, offset, bytes, nullptr, source, &group});
  }

 private:
  struct Request {
    FileId file;
    std::uint64_t offset;
    std::size_t bytes;
    void* target;
    const void* source;
    IoGroup* group;
  };
  void put(Request request) {
    offload::DiskEngineAccess::start(*request.group, 1);
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    changed_.notify_all();
  }
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !requests_.empty(); });
      if (requests_.empty()) return;
      lock.unlock();
      // Let the caller go on: it asks for more, or uses what is not there yet if it does not wait.
      for (int turn = 0; turn < 500; ++turn) std::this_thread::yield();
      lock.lock();
      const Request request = requests_.back();
      requests_.pop_back();
      lock.unlock();
      IoGroup group;
      if (request.target != nullptr) {
        real_->read(request.file, request.offset, request.bytes, request.target, group);
      } else {
        real_->write(request.file, request.offset, request.bytes, request.source, group);
      }
      group.wait();
      offload::DiskEngineAccess::finish(*request.group);
      lock.lock();
    }
  }

  std::unique_ptr<DiskEngine> real_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Request> requests_;
  bool stopping_ = false;
  std::thread thread_;
};

TEST(KvDisk, ASlowDiskThatTakesRequestsOutOfOrderChangesNothing) {
  for (const std::int32_t layers : {1, 2}) {
    const KvShape shape = small_shape(layers);
    const KvWorkload work = make_kv_workload(shape, 1, 8, 4);
    ContraryDisk disk;
    for (unsigned order = 0; order < 3; ++order) {
      KvRig rig(make_shuffled_engine(order), shape, on_disk(), &disk);
      const std::vector<float> got = run_kv_workload(rig, work, KvPrefetch::ahead);
      const std::vector<double> wanted = kv_reference(work, 0.5F);
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(static_cast<double>(got[i]), wanted[i], 1e-5);
      }
    }
  }
}

// Pages that are used in turn are written again soon after, and read in between.
TEST(KvDisk, ASlowDiskChangesNothingWherePagesAreUsedInTurn) {
  for (const std::vector<std::int32_t>& windows :
       {std::vector<std::int32_t>{3}, std::vector<std::int32_t>{0, 5}}) {
    KvShape shape = small_shape(static_cast<std::int32_t>(windows.size()));
    shape.windows = windows;
    shape.tokens_per_slot = 40;
    shape.tokens_per_gpu_batch = 5;
    const KvWorkload work = make_kv_workload(shape, 1, 40, 6);
    const std::vector<double> wanted = kv_reference(work, 0.5F);
    ContraryDisk disk;
    for (unsigned order = 0; order < 3; ++order) {
      KvRig rig(make_shuffled_engine(order), shape, on_disk(), &disk);
      const std::vector<float> got = run_kv_workload(rig, work, KvPrefetch::ahead);
      ASSERT_EQ(got.size(), wanted.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(static_cast<double>(got[i]), wanted[i], 1e-5) << i;
      }
    }
  }
}

// Two sequences follow each other in a slot at once and write the same page: the later one must
// win.
TEST(KvDisk, ANewSequenceOverwritesItsSlotsPagesInOrder) {
  const KvShape shape = small_shape(1);
  KvWorkload work{shape, {}, {}};
  for (std::uint64_t sequence = 1; sequence <= 6; ++sequence) {
    work.passes.push_back({{{{0, 0, 2, 2}}, {{sequence, 0}, {sequence, 1}}}});
  }
  work.passes.push_back({{{{0, 0, 1, 3}}, {{6, 2}}}});
  const std::vector<double> wanted = kv_reference(work, 0.5F);
  ContraryDisk disk;
  KvRig rig(make_shuffled_engine(0), shape, on_disk(), &disk);
  const std::vector<float> got = run_kv_workload(rig, work, KvPrefetch::ahead);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(got[i]), wanted[i], 1e-5) << i;
  }
}

TEST(KvDisk, IsRefusedWithoutAnEngine) {
  EXPECT_THROW(KvRig(make_shuffled_engine(0), small_shape(1), on_disk(), nullptr), Error);
}

}  // namespace
}  // namespace sluice::support
