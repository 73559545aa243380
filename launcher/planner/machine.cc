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

}  // namespace sluice::launcher
