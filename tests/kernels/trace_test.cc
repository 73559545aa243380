#include "kernels/device/trace.h"

#include <gtest/gtest.h>

#include <semaphore>
#include <string>

#include "kernels/device/cpu_backend.h"

namespace sluice {
namespace {

double seconds(const Trace& trace, Activity activity) { return trace.busy_seconds(activity); }

TEST(Trace, SpansLearnHowMuchOfThemFellIntoAStall) {
  Trace trace(0);
  EXPECT_FALSE(trace.measures_stalls());
  const std::int64_t begin = trace.now_ns();
  trace.begin_stall();
  const std::int64_t middle = trace.now_ns();
  trace.add(Activity::disk_read, begin, middle);
  trace.end_stall(Activity::stall_weights);
  const std::int64_t end = trace.now_ns();
  EXPECT_TRUE(trace.measures_stalls());
  trace.add(Activity::host_to_device, begin, end);
  trace.add(Activity::device_to_host, end, end + 1000);
  trace.add(Activity::compute, begin, end);
  EXPECT_NEAR(trace.exposed_seconds(Activity::host_to_device),
              seconds(trace, Activity::stall_weights), 1e-9);
  EXPECT_LE(trace.exposed_seconds(Activity::disk_read), seconds(trace, Activity::disk_read));
  EXPECT_EQ(trace.exposed_seconds(Activity::device_to_host), 0.0);
  EXPECT_EQ(trace.exposed_seconds(Activity::compute), 0.0);
}

TEST(Trace, AnEmptyQueueIsPutDownToWhatTheExecutorWaitedFor) {
  Trace trace(16);
  trace.begin_stall();
  const std::int64_t begin = trace.now_ns();
  while (trace.now_ns() < begin + 1000) {
  }
  // More than the whole stall, in the proportion of three to one.
  trace.add(Activity::wait_weights, begin - 3'000'000'000, begin);
  trace.add(Activity::idle, begin - 1'000'000'000, begin);
  trace.end_starvation();
  const double weights = seconds(trace, Activity::stall_weights);
  const double pass = seconds(trace, Activity::stall_pass);
  EXPECT_GT(pass, 0);
  EXPECT_NEAR(weights / pass, 3.0, 0.1);
  EXPECT_LT(seconds(trace, Activity::stall_other), 1e-6);
  std::int64_t last = 0;
  for (const Span& span : trace.spans()) {
    if (span.activity < Activity::stall_weights) continue;
    EXPECT_GE(span.begin_ns, last);
    last = span.end_ns;
  }
}

TEST(Trace, AnExecutorThatWaitedForNothingWasLate) {
  Trace trace(0);
  trace.add(Activity::idle, 0, 1'000'000);  // before the stall
  trace.begin_stall();
  trace.end_starvation();
  EXPECT_GT(seconds(trace, Activity::stall_other), 0);
  EXPECT_EQ(seconds(trace, Activity::stall_pass), 0.0);
}

TEST(Trace, EveryActivityHasAName) {
  for (int a = 0; a < kActivityCount; ++a) {
    EXPECT_GT(std::string(name_of(static_cast<Activity>(a))).size(), 3U) << a;
  }
  EXPECT_STREQ(name_of(Activity::idle), "idle");
  EXPECT_STREQ(name_of(Activity::stall_other), "stall other");
}

/// The compute lane waits for a copy that stands behind a gate.
TEST(CpuBackend, TheComputeLaneSaysWhatItWaitsFor) {
  Trace trace(0);
  std::binary_semaphore gate(0);
  {
    CpuBackend backend({}, &trace);
    backend.call(
        Lane::host_to_device,
        [](void* argument) { static_cast<std::binary_semaphore*>(argument)->acquire(); }, &gate);
    const Event copied = backend.record(Lane::host_to_device);
    backend.wait(Lane::device_to_host, copied);  // not the compute lane
    compute_waits(backend, copied, Activity::stall_weights);
    // The queue's own emptiness is over once it waits.
    while (!trace.measures_stalls()) std::this_thread::yield();
    gate.release();
    backend.synchronize(backend.record(Lane::compute));
  }
  EXPECT_GT(seconds(trace, Activity::stall_weights) + seconds(trace, Activity::stall_other), 0);
  EXPECT_EQ(seconds(trace, Activity::compute), 0.0);
}

TEST(StallReason, IsOfTheNextWaitAlone) {
  StallReason reason;
  EXPECT_EQ(reason.take(Lane::host_to_device), Activity::stall_other);
  EXPECT_EQ(reason.take(Lane::receive), Activity::stall_message);
  EXPECT_EQ(reason.take(Lane::send), Activity::stall_message);
  reason.expect(Activity::stall_kv);
  EXPECT_EQ(reason.take(Lane::host_to_device), Activity::stall_kv);
  EXPECT_EQ(reason.take(Lane::host_to_device), Activity::stall_other);
}

// A reason goes with its wait also where there is nothing to wait for, and not to the next one.
TEST(CpuBackend, AReasonIsForgottenWithAWaitForWhatIsDone) {
  Trace trace(0);
  std::binary_semaphore gate(0);
  {
    CpuBackend backend({}, &trace);
    compute_waits(backend, Event{}, Activity::stall_kv);
    backend.call(
        Lane::host_to_device,
        [](void* argument) { static_cast<std::binary_semaphore*>(argument)->acquire(); }, &gate);
    backend.wait(Lane::compute, backend.record(Lane::host_to_device));
    while (!trace.measures_stalls()) std::this_thread::yield();
    gate.release();
    backend.synchronize(backend.record(Lane::compute));
  }
  EXPECT_EQ(seconds(trace, Activity::stall_kv), 0.0);
  EXPECT_GT(seconds(trace, Activity::stall_other), 0);
}

}  // namespace
}  // namespace sluice
