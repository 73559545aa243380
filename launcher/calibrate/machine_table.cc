#include "launcher/calibrate/machine_table.h"

#include <fmt/format.h>

#include <vector>

#include "launcher/config/sizes.h"
#include "launcher/planner/machine_fields.h"
#include "launcher/report/text_table.h"

namespace sluice::launcher {

namespace {

std::string rate(double value, const char* unit) {
  if (value >= 1e12) return fmt::format("{:.3g} T{}", value / 1e12, unit);
  return value >= 1e9 ? fmt::format("{:.3g} G{}", value / 1e9, unit)
                      : fmt::format("{:.3g} M{}", value / 1e6, unit);
}

std::string time(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.3g} us", seconds * 1e6)
                        : fmt::format("{:.3g} ms", seconds * 1e3);
}

class Lines {
 public:
  void add(const std::string& name, const Figure& figure, const std::string& value) {
    if (!figure.known()) return;
    table_.add({name, value, fmt::format("± {:.0f} %", 100 * figure.spread)});
  }
  void bytes(const std::string& name, const Figure& figure) {
    add(name, figure, rate(figure.value, "B/s"));
  }
  void flop(const std::string& name, const Figure& figure) {
    add(name, figure, rate(figure.value, "FLOP/s"));
  }
  void seconds(const std::string& name, const Figure& figure) {
    add(name, figure, time(figure.value));
  }
  std::string text() const { return table_.text(2); }

 private:
  TextTable table_{"lrl", {"", "median", "spread"}};
};

/// A visitor of machine_fields.h that counts figures.
class SpreadCounter {
 public:
  int figures = 0;
  int wide = 0;

  void text(const char*, const std::string&) {}
  void kind(const char*, const std::string&, const std::string&) {}
  void flag(const char*, bool) {}
  void count(const char*, std::int32_t, std::int32_t, Need, std::int32_t = 0) {}
  void size(const char*, std::uint64_t, Need) {}
  void dtype(const char*, DType) {}
  void figure(const char*, const Figure& figure, UnitKind, Need) {
    figures += figure.known() ? 1 : 0;
    wide += figure.spread > 0.2 ? 1 : 0;
  }
  void curve(const char* key, const RateCurve& curve, UnitKind unit, Need need) {
    for (const RateCurve::Point& point : curve.points) figure(key, point.rate, unit, need);
  }
  void of_dtype(DType dtype, const std::map<DType, Figure>& map, UnitKind unit) {
    const auto found = map.find(dtype);
    if (found != map.end()) figure("", found->second, unit, Need::always);
  }
  void of_dtype(DType dtype, const std::map<DType, RateCurve>& map, UnitKind unit) {
    const auto found = map.find(dtype);
    if (found != map.end()) curve("", found->second, unit, Need::always);
  }
  template <typename Item, typename Inside>
  void list(const char*, const std::vector<Item>& items, const Inside& inside) {
    for (const Item& item : items) inside(item);
  }
  template <typename Inside>
  void section(const char*, Need, const Inside& inside) {
    inside();
  }
};

template <typename Map>
const typename Map::mapped_type* of(const Map& map, DType dtype) {
  const auto found = map.find(dtype);
  return found == map.end() ? nullptr : &found->second;
}

}  // namespace

std::string machine_table(const Machine& machine) {
  Lines lines;
  for (const DType dtype : kMachineDTypes) {
    const RateCurve* curve = of(machine.device.products, dtype);
    if (curve == nullptr || curve->points.empty()) continue;
    for (const RateCurve::Point* point : {&curve->points.front(), &curve->points.back()}) {
      lines.flop(fmt::format("products, {}, {:g} row{}", name_of(dtype), point->size,
                             point->size == 1 ? "" : "s"),
                 point->rate);
    }
  }
  for (const DType dtype : {DType::f16, DType::q4}) {
    const std::string name(name_of(dtype));
    if (const Figure* f = of(machine.device.decode_attention, dtype)) {
      lines.bytes("attention, decode, " + name, *f);
    }
    if (const Figure* f = of(machine.host.decode_attention, dtype)) {
      lines.bytes("... by the host beside it", *f);
    }
    if (const Figure* f = of(machine.device.prefill_attention, dtype)) {
      lines.flop("attention, prefill, " + name, *f);
    }
  }
  lines.seconds("a task that waits for another", machine.device.task_seconds);
  lines.seconds("an operation", machine.device.operation_seconds);
  lines.bytes("device memory", machine.device.memory_read);
  lines.bytes("host memory", machine.host.memory_read);
  lines.bytes("host to device", machine.host_to_device.alone);
  lines.bytes("... beside products", machine.host_to_device.computing);
  lines.bytes("device to host", machine.device_to_host.alone);
  lines.bytes("... beside products", machine.device_to_host.computing);
  if (!machine.disk.read.points.empty())
    lines.bytes("disk read", machine.disk.read.points.back().rate);
  if (!machine.disk.write.points.empty()) {
    lines.bytes("disk write", machine.disk.write.points.back().rate);
  }
  lines.bytes("between ranks of a host", machine.within_host.bandwidth);
  lines.seconds("... a message", machine.within_host.latency);
  lines.bytes("between hosts", machine.between_hosts.bandwidth);
  lines.seconds("... a message", machine.between_hosts.latency);
  return fmt::format("{}: {}, {} cores, {} of host memory\n", machine.name, machine.device.name,
                     machine.host.cores, format_size(machine.host.memory)) +
         lines.text();
}

std::string restless_line(const Machine& machine) {
  SpreadCounter counter;
  describe_machine(counter, machine);
  if (counter.wide * 5 <= counter.figures) return {};
  return fmt::format(
      "{} of {} figures vary by more than 20 %: something else ran on this machine meanwhile; "
      "measure again when nothing does\n",
      counter.wide, counter.figures);
}

}  // namespace sluice::launcher
