#include "launcher/planner/machine_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/support/file_bytes.h"
#include "tests/support/machines.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using support::config_refusal;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Machine read(const std::string& text) { return read_machine_text(text, "m.yaml"); }

/// The file of a whole machine, with one piece replaced.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = to_yaml(support::paper_machine());
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from << " is not in\n" << text;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

std::string refusal_of(const std::string& from, const std::string& to) {
  const std::string text = changed(from, to);
  return config_refusal([&] { read(text); });
}

void expect_same(const Figure& one, const Figure& other) {
  EXPECT_NEAR(one.value / other.value, 1, 1e-5);
  EXPECT_EQ(one.spread, other.spread);
  EXPECT_EQ(one.date, other.date);
  EXPECT_EQ(one.how, other.how);
}

TEST(RateCurveTest, IsStraightInLogarithmsAndFlatBeyondItsPoints) {
  RateCurve curve;
  EXPECT_EQ(curve.at(10), 0);
  curve.points = {{1, {100, 0, "", ""}}, {16, {1600, 0, "", ""}}, {64, {3200, 0, "", ""}}};
  EXPECT_DOUBLE_EQ(curve.at(0.5), 100);
  EXPECT_DOUBLE_EQ(curve.at(1), 100);
  EXPECT_DOUBLE_EQ(curve.at(4), 400) << "what is bound by bytes grows with its rows";
  EXPECT_DOUBLE_EQ(curve.at(16), 1600);
  EXPECT_NEAR(curve.at(32), 1600 * std::sqrt(2.0), 1e-9);
  EXPECT_DOUBLE_EQ(curve.at(64), 3200);
  EXPECT_DOUBLE_EQ(curve.at(1e9), 3200);
}

TEST(MachineFileTest, WhatIsWrittenIsReadBack) {
  Machine machine = support::paper_machine();
  machine.hosts = 4;
  machine.devices = 2;
  machine.shares_link = true;
  machine.on_paper = true;
  machine.name = "a \"machine\"\\\n";
  machine.within_host = {{5e9, 0, "2026-11-30", "x"}, {30e-6, 0, "2026-11-30", "x"}};
  machine.between_hosts = {{1.25e9, 0, "2026-11-30", "x"}, {1.5e-3, 0, "2026-11-30", "x"}};
  const Machine back = read(to_yaml(machine));
  EXPECT_EQ(back.name, machine.name);
  EXPECT_EQ(back.date, machine.date);
  EXPECT_EQ(back.hosts, 4);
  EXPECT_EQ(back.devices, 2);
  EXPECT_TRUE(back.shares_link && back.on_paper);
  EXPECT_EQ(back.device.name, "a GPU");
  EXPECT_EQ(back.device.kind, "cuda");
  EXPECT_EQ(back.device.memory, machine.device.memory);
  EXPECT_EQ(back.device.compute_dtype, DType::f16);
  ASSERT_EQ(back.device.products.size(), 5U);
  for (const auto& [dtype, curve] : machine.device.products) {
    ASSERT_EQ(back.device.products.at(dtype).points.size(), curve.points.size());
    for (std::size_t i = 0; i < curve.points.size(); ++i) {
      EXPECT_EQ(back.device.products.at(dtype).points[i].size, curve.points[i].size);
      expect_same(back.device.products.at(dtype).points[i].rate, curve.points[i].rate);
    }
  }
  expect_same(back.device.decode_attention.at(DType::q4),
              machine.device.decode_attention.at(DType::q4));
  expect_same(back.device.prefill_attention.at(DType::f16),
              machine.device.prefill_attention.at(DType::f16));
  expect_same(back.device.task_seconds, machine.device.task_seconds);
  expect_same(back.device.operation_seconds, machine.device.operation_seconds);
  EXPECT_EQ(back.host.memory, machine.host.memory);
  EXPECT_EQ(back.host.cores, 24);
  expect_same(back.host.decode_attention.at(DType::f32),
              machine.host.decode_attention.at(DType::f32));
  expect_same(back.host.memory_copy, machine.host.memory_copy);
  expect_same(back.host_to_device.computing, machine.host_to_device.computing);
  expect_same(back.device_to_host.product_share, machine.device_to_host.product_share);
  EXPECT_EQ(back.disk.folder, "/scratch");
  EXPECT_EQ(back.disk.read.points.front().size, 65536);
  expect_same(back.disk.write.points.back().rate, machine.disk.write.points.back().rate);
  EXPECT_EQ(back.disk.free_bytes, machine.disk.free_bytes);
  expect_same(back.within_host.latency, machine.within_host.latency);
  expect_same(back.between_hosts.bandwidth, machine.between_hosts.bandwidth);
  EXPECT_EQ(to_yaml(back), to_yaml(machine));
}

TEST(MachineFileTest, UnitsHavePrefixes) {
  EXPECT_DOUBLE_EQ(
      read(changed("memory_read: {value: 300, unit: GB/s", "memory_read: {value: 0.5, unit: TB/s"))
          .device.memory_read.value,
      5e11);
  EXPECT_DOUBLE_EQ(
      read(changed("memory_read: {value: 300, unit: GB/s", "memory_read: {value: 2, unit: GiB/s"))
          .device.memory_read.value,
      2147483648.0);
}

TEST(MachineFileTest, WhatIsMissingIsNamedWithItsPlace) {
  EXPECT_THAT(refusal_of("  cores: 24\n", ""),
              AllOf(HasSubstr("m.yaml:"), HasSubstr("key 'host.cores': is missing")));
  EXPECT_THAT(refusal_of("unit: GB/s, spread", "spread"), HasSubstr("unit': is missing"));
  EXPECT_THAT(refusal_of("host_to_device:\n", "host_to_devices:\n"),
              AllOf(HasSubstr("m.yaml:1:1: key 'host_to_device': is missing; sluice calibrate"),
                    HasSubstr("unknown key; did you mean 'host_to_device'?")));
  EXPECT_THAT(config_refusal([] { read("format: sluice-machine-1\n"); }),
              AllOf(HasSubstr("key 'device': is missing"), HasSubstr("key 'disk': is missing")));
  EXPECT_THAT(config_refusal([] { read("3"); }), HasSubstr("is no machine file"));
  EXPECT_THAT(config_refusal([] { read(""); }), HasSubstr("is no machine file"));
}

TEST(MachineFileTest, RatesThatCannotBeAreRefused) {
  const char* const kRead = "memory_read: {value: 300, unit: GB/s";
  EXPECT_THAT(refusal_of(kRead, "memory_read: {value: -300, unit: GB/s"),
              AllOf(HasSubstr("key 'device.memory_read.value': -300 GB/s cannot be"),
                    HasSubstr("is its unit right?")));
  EXPECT_THAT(refusal_of(kRead, "memory_read: {value: 0, unit: GB/s"), HasSubstr("0 GB/s cannot"));
  EXPECT_THAT(refusal_of(kRead, "memory_read: {value: 300e9, unit: GB/s"),
              HasSubstr("cannot be: it must be from 1000 to 1e+15 B/s"));
  EXPECT_THAT(refusal_of(kRead, "memory_read: {value: 300, unit: B/s"), HasSubstr("cannot be"));
  EXPECT_THAT(refusal_of(kRead, "memory_read: {value: 300, unit: GFLOP/s"),
              HasSubstr("key 'device.memory_read.unit': must be B/s, kB/s"));
  EXPECT_THAT(refusal_of(kRead, "memory_read: {value: 300, unit: mB/s"), HasSubstr("must be B/s"));
  EXPECT_THAT(refusal_of(kRead, "memory_read: {value: fast, unit: GB/s"),
              HasSubstr("must be a number, not 'fast'"));
  EXPECT_THAT(refusal_of(kRead, "memory_read: {value: .nan, unit: GB/s"),
              HasSubstr("must be a number"));
  EXPECT_THAT(refusal_of("unit: us, spread: 0.01", "unit: us, spread: 2"),
              HasSubstr("spread': must be from 0 to 1, not '2'"));
  EXPECT_THAT(refusal_of("value: 0.95", "value: 1.95"), HasSubstr("cannot be"));
  EXPECT_THAT(refusal_of("memory: 208GiB", "memory: 208"), HasSubstr("must be from 1 MiB"));
  EXPECT_THAT(refusal_of("cores: 24", "cores: 2.5"), HasSubstr("must be a whole number"));
  EXPECT_THAT(refusal_of("cores: 24", "cores: -4"), HasSubstr("must be from 1 to"));
  EXPECT_THAT(refusal_of("kind: \"cuda\"", "kind: \"rocm\""), HasSubstr("must be cpu or cuda"));
  EXPECT_THAT(refusal_of("compute_dtype: f16", "compute_dtype: q4"), HasSubstr("must be f32"));
  EXPECT_THAT(refusal_of("date: \"2026-11-30\"", "date: \"yesterday\""),
              HasSubstr("must be a date such as 2026-11-30"));
}

TEST(MachineFileTest, SizesOfACurveMustGrow) {
  EXPECT_THAT(refusal_of("{rows: 64,", "{rows: 1,"), HasSubstr("must be more than in the line"));
  EXPECT_THAT(refusal_of("{bytes: 1MiB,", "{bytes: 1KiB,"), HasSubstr("must be more than"));
  EXPECT_THAT(refusal_of("{rows: 64,", "{bytes: 64,"), HasSubstr("rows': is missing"));
}

TEST(MachineFileTest, SizesOfACurveStayApartWhenWritten) {
  Machine machine = support::paper_machine();
  auto& points = machine.device.products.begin()->second.points;
  points.back().size = 1234567;
  points.push_back({1234568, points.back().rate});
  EXPECT_EQ(read(to_yaml(machine)).device.products.begin()->second.points.back().size, 1234568);
}

TEST(MachineFileTest, PlaceIsThatOfTheValue) {
  const std::string text = changed("cores: 24", "cores: many");
  const std::string before = text.substr(0, text.find("cores: many"));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  EXPECT_THAT(config_refusal([&] { read(text); }),
              HasSubstr("m.yaml:" + std::to_string(line) + ":10: key 'host.cores'"));
}

TEST(MachineFileTest, ARowOfDevicesNeedsItsNetwork) {
  EXPECT_THAT(refusal_of("devices: 1\n", "devices: 4\n"),
              AllOf(HasSubstr("key 'within_host': is missing"), Not(HasSubstr("between"))));
  EXPECT_THAT(refusal_of("hosts: 1\n", "hosts: 4\n"), HasSubstr("'between_hosts': is missing"));
}

/// Three devices, of which the last two are alike.
Machine uneven_machine() {
  Machine machine = support::paper_machine();
  machine.devices = 3;
  const std::string date = machine.date;
  machine.within_host = {{1e9, 0, date, "a test's"}, {1e-5, 0, date, "a test's"}};
  OtherDevices other;
  other.device = machine.device;
  other.device.name = "another GPU";
  other.device.memory = std::uint64_t{8} << 30U;
  other.host_to_device = other.device_to_host = machine.host_to_device;
  machine.other_devices = {other};
  return machine;
}

TEST(MachineFileTest, DevicesOfAHostMayBeOfSeveralKinds) {
  const Machine machine = uneven_machine();
  const Machine back = read(to_yaml(machine));
  EXPECT_EQ(to_yaml(back), to_yaml(machine));
  ASSERT_EQ(back.other_devices.size(), 1U);
  EXPECT_EQ(kind_of(back, 0), 0U);
  EXPECT_EQ(kind_of(back, 1), 1U);
  EXPECT_EQ(kind_of(back, 2), 1U);
  const std::vector<Machine> kinds = kinds_of(back);
  ASSERT_EQ(kinds.size(), 2U);
  EXPECT_EQ(kinds[0].device.name, "a GPU");
  EXPECT_EQ(kinds[1].device.name, "another GPU");
  EXPECT_EQ(kinds[1].device.memory, std::uint64_t{8} << 30U);
  EXPECT_EQ(kinds[1].host.cores, machine.host.cores);
}

TEST(MachineFileTest, KindsOfDevicesFollowEachOther) {
  const std::string text = to_yaml(uneven_machine());
  const auto refusal = [&](const std::string& from, const std::string& to) {
    std::string wrong = text;
    wrong.replace(wrong.rfind(from), from.size(), to);
    return config_refusal([&] { read(wrong); });
  };
  EXPECT_THAT(refusal("first: 1", "first: 3"),
              AllOf(HasSubstr("'other_devices[0].first'"), HasSubstr("from 1 to 2")));
  EXPECT_THAT(refusal("first: 1", "first: 0"), HasSubstr("from 1 to 2"));
  EXPECT_THAT(refusal("kind: \"cuda\"", "kind: \"cpu\""),
              AllOf(HasSubstr("'other_devices[0].device.kind'"), HasSubstr("must be cuda")));
  EXPECT_THAT(refusal("    device_to_host:", "    device_to_hosts:"),
              HasSubstr("'other_devices[0].device_to_host': is missing"));
}

TEST(MachineFileTest, IsFoundInTheCacheFolder) {
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string kept = before == nullptr ? "" : before;
  support::ScratchFolder folder;
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", "/cache", 1), 0);
  EXPECT_EQ(machine_file_path("node-1", "Intel(R) Xeon(R) @ 2.50GHz/../x"),
            "/cache/sluice/machine-node-1-Intel-R-Xeon-R-2.50GHz-..-x.yaml");
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", "relative", 1), 0);  // the specification: to be ignored
  EXPECT_NE(machine_file_path("h", "p").string().substr(0, 8), "relative");
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", folder.path().c_str(), 1), 0);
  EXPECT_FALSE(find_machine(""));
  const std::filesystem::path other = folder.path() / "deep" / "other.yaml";
  write_machine_file(other, support::paper_machine());
  EXPECT_EQ(find_machine(other)->name, "test");
  EXPECT_THAT(config_refusal([&] { find_machine(folder.path() / "none.yaml"); }),
              HasSubstr("cannot be read"));
  EXPECT_THAT(config_refusal([&] { find_machine(folder.path()); }), HasSubstr("is a folder"));
  before == nullptr ? ::unsetenv("XDG_CACHE_HOME") : ::setenv("XDG_CACHE_HOME", kept.c_str(), 1);
  EXPECT_FALSE(processor_name().empty());
}

TEST(MachineFileTest, DatesAreDays) {
  EXPECT_EQ(date_of(0), "1970-01-01");
  EXPECT_EQ(date_of(1'796'000'000), "2026-11-30");
}

/// A hostile file is refused, or read: it never harms.
TEST(MachineFileTest, DamagedFilesAreRefusedOrRead) {
  const std::string whole = to_yaml(support::paper_machine());
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    try {
      read(support::mutated(whole, seed));
    } catch (const ConfigError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace sluice::launcher
