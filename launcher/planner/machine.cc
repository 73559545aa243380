#include "launcher/planner/machine.h"

#include <algorithm>
#include <cmath>

namespace sluice::launcher {

double RateCurve::at(double size) const {
  if (points.empty()) return 0;
  const auto above =
      std::upper_bound(points.begin(), points.end(), size,
                       [](double wanted, const Point& point) { return wanted < point.size; });
  if (above == points.begin()) return points.front().rate.value;
  if (above == points.end()) return points.back().rate.value;
  const Point& below = *(above - 1);
  const double part = std::log(size / below.size) / std::log(above->size / below.size);
  return below.rate.value * std::pow(above->rate.value / below.rate.value, part);
}

std::size_t kind_of(const Machine& machine, std::int32_t device) {
  const auto begins_later = [device](const OtherDevices& other) { return other.first > device; };
  return static_cast<std::size_t>(std::ranges::find_if(machine.other_devices, begins_later) -
                                  machine.other_devices.begin());
}

std::vector<Machine> kinds_of(const Machine& machine) {
  std::vector<Machine> kinds(machine.other_devices.size() + 1, machine);
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    kinds[kind].other_devices.clear();
    if (kind == 0) continue;
    const OtherDevices& other = machine.other_devices[kind - 1];
    kinds[kind].device = other.device;
    kinds[kind].host_to_device = other.host_to_device;
    kinds[kind].device_to_host = other.device_to_host;
  }
  return kinds;
}

}  // namespace sluice::launcher
