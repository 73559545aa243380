// The keys of a machine file in their order: the reader and the writer are visitors of them, so
// that what one writes the other reads. A part of machine_file.cc.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "launcher/planner/machine.h"

namespace sluice::launcher {

/// What a figure is counted in. A file with a value beyond the limits is refused.
struct UnitKind {
  const char* base;
  double lowest;
  double highest;
};
constexpr UnitKind kBytesPerSecond = {"B/s", 1e3, 1e15};
constexpr UnitKind kFlopPerSecond = {"FLOP/s", 1e3, 1e19};
constexpr UnitKind kSeconds = {"s", 1e-9, 10};
constexpr UnitKind kShare = {"1", 1e-3, 1};

/// Whether a file without it is refused.
enum class Need : std::uint8_t { always, if_known };

constexpr DType kMachineDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4};

template <typename Visitor, typename Map>
void describe_by_dtype(Visitor& visitor, const char* key, Map& map, UnitKind unit) {
  visitor.section(key, Need::always, [&] {
    for (const DType dtype : kMachineDTypes) visitor.of_dtype(dtype, map, unit);
  });
}

template <typename Visitor, typename Link>
void describe_link(Visitor& visitor, const char* key, Link& link) {
  visitor.section(key, Need::always, [&] {
    visitor.figure("alone", link.alone, kBytesPerSecond, Need::always);
    visitor.figure("computing", link.computing, kBytesPerSecond, Need::always);
    visitor.figure("product_share", link.product_share, kShare, Need::always);
    visitor.figure("pageable", link.pageable, kBytesPerSecond, Need::if_known);
  });
}

template <typename Visitor, typename Network>
void describe_network(Visitor& visitor, const char* key, Network& network, Need need) {
  visitor.section(key, need, [&] {
    visitor.figure("bandwidth", network.bandwidth, kBytesPerSecond, Need::always);
    visitor.figure("latency", network.latency, kSeconds, Need::always);
  });
}

/// `kind`: what it must be; empty: any.
template <typename Visitor, typename Device>
void describe_device(Visitor& visitor, Device& device, const std::string& kind) {
  visitor.text("name", device.name);
  visitor.kind("kind", device.kind, kind);
  visitor.count("threads", device.threads, 0, Need::if_known);
  visitor.size("memory", device.memory, Need::always);
  visitor.dtype("compute_dtype", device.compute_dtype);
  describe_by_dtype(visitor, "products", device.products, kFlopPerSecond);
  describe_by_dtype(visitor, "decode_attention", device.decode_attention, kBytesPerSecond);
  describe_by_dtype(visitor, "prefill_attention", device.prefill_attention, kFlopPerSecond);
  visitor.figure("memory_read", device.memory_read, kBytesPerSecond, Need::always);
  visitor.figure("task_seconds", device.task_seconds, kSeconds, Need::always);
  visitor.figure("operation_seconds", device.operation_seconds, kSeconds, Need::always);
}

template <typename Visitor, typename Host>
void describe_host(Visitor& visitor, Host& host) {
  visitor.size("memory", host.memory, Need::always);
  visitor.count("cores", host.cores, 1, Need::always);
  describe_by_dtype(visitor, "decode_attention", host.decode_attention, kBytesPerSecond);
  describe_by_dtype(visitor, "prefill_attention", host.prefill_attention, kFlopPerSecond);
  visitor.figure("memory_read", host.memory_read, kBytesPerSecond, Need::always);
  visitor.figure("memory_copy", host.memory_copy, kBytesPerSecond, Need::always);
}

/// `M`: Machine, or const Machine.
template <typename Visitor, typename M>
void describe_machine(Visitor& visitor, M& machine) {
  visitor.text("name", machine.name);
  visitor.text("date", machine.date);
  visitor.flag("on_paper", machine.on_paper);
  visitor.count("hosts", machine.hosts, 1, Need::if_known);
  visitor.count("devices", machine.devices, 1, Need::if_known);
  visitor.flag("shares_link", machine.shares_link);
  visitor.section("device", Need::always, [&] { describe_device(visitor, machine.device, ""); });
  visitor.section("host", Need::always, [&] { describe_host(visitor, machine.host); });
  describe_link(visitor, "host_to_device", machine.host_to_device);
  describe_link(visitor, "device_to_host", machine.device_to_host);
  visitor.section("disk", Need::always, [&] {
    visitor.text("folder", machine.disk.folder);
    visitor.curve("read", machine.disk.read, kBytesPerSecond, Need::always);
    visitor.curve("write", machine.disk.write, kBytesPerSecond, Need::always);
    visitor.figure("product_share", machine.disk.product_share, kShare, Need::if_known);
    visitor.size("free_bytes", machine.disk.free_bytes, Need::if_known);
  });
  describe_network(visitor, "within_host", machine.within_host,
                   machine.devices > 1 ? Need::always : Need::if_known);
  describe_network(visitor, "between_hosts", machine.between_hosts,
                   machine.hosts > 1 ? Need::always : Need::if_known);
  std::int32_t first = 1;  // the least that the next kind may begin at
  visitor.list("other_devices", machine.other_devices, [&](auto& other) {
    visitor.count("first", other.first, first, Need::always, machine.devices - 1);
    first = other.first + 1;
    visitor.section("device", Need::always,
                    [&] { describe_device(visitor, other.device, machine.device.kind); });
    describe_link(visitor, "host_to_device", other.host_to_device);
    describe_link(visitor, "device_to_host", other.device_to_host);
  });
}

}  // namespace sluice::launcher
