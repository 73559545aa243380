#include "launcher/calibrate/sampler.h"

namespace sluice::launcher {

Figure figure_of(std::vector<double> samples, std::string date, std::string how) {
  std::sort(samples.begin(), samples.end());
  const auto quantile = [&](double part) {
    const double at = part * static_cast<double>(samples.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const std::size_t above = std::min(below + 1, samples.size() - 1);
    return samples[below] + (at - static_cast<double>(below)) * (samples[above] - samples[below]);
  };
  const double middle = quantile(0.5);
  const double spread = middle > 0 ? (quantile(0.75) - quantile(0.25)) / 2 / middle : 0;
  return {middle, std::min(spread, 1.0), std::move(date), std::move(how)};
}

}  // namespace sluice::launcher
