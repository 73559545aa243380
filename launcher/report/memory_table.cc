#include "launcher/report/memory_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/config/sizes.h"
#include "launcher/report/text_table.h"

namespace sluice::launcher {

namespace {

struct Purpose {
  std::string name;
  std::uint64_t bytes = 0;
};

/// "KV cache (f16)": its element type may be the configuration's or the device's own.
std::string purpose_text(const Purpose& purpose, const std::string& cache_dtype) {
  if (purpose.name != "KV cache" || cache_dtype.empty()) return purpose.name;
  return fmt::format("{} ({})", purpose.name, cache_dtype);
}

std::vector<Purpose> purposes_of(const stage::StageReport& stage, offload::Tier tier) {
  std::vector<Purpose> purposes;
  for (const offload::Reservation& reservation : stage.plan) {
    if (reservation.tier != tier || reservation.bytes == 0) continue;
    auto same = std::find_if(purposes.begin(), purposes.end(), [&](const Purpose& purpose) {
      return purpose.name == reservation.purpose;
    });
    if (same == purposes.end()) {
      same = purposes.insert(purposes.end(), Purpose{reservation.purpose, 0});
    }
    same->bytes += reservation.bytes;
  }
  return purposes;
}

std::string of_budget(std::uint64_t bytes, std::uint64_t budget) {
  if (budget == 0) return "no limit set";
  const double percent = 100.0 * static_cast<double>(bytes) / static_cast<double>(budget);
  std::string text = fmt::format("{:.0f} % of {}", percent, format_size(budget));
  if (bytes > budget)
    text += fmt::format(": does not fit, {} too much", format_size(bytes - budget));
  return text;
}

}  // namespace

std::string layers_text(const stage::StageReport& stage) {
  if (stage.layers <= 0) return "no layers";
  if (stage.layers == 1) return fmt::format("layer {}", stage.first_layer);
  return fmt::format("layers {}-{}", stage.first_layer, stage.first_layer + stage.layers - 1);
}

std::string memory_table(const std::vector<stage::StageReport>& stages) {
  std::string out;
  for (const stage::StageReport& stage : stages) {
    out += fmt::format("stage {} on {}: {}, {}\n", stage.rank, stage.host, layers_text(stage),
                       stage.device);
    TextTable table("llrl", {"tier", "purpose", "bytes", "budget"});
    bool empty = true;
    for (int t = 0; t < offload::kTierCount; ++t) {
      const auto tier = static_cast<offload::Tier>(t);
      std::uint64_t total = 0;
      const std::vector<Purpose> purposes = purposes_of(stage, tier);
      for (const Purpose& purpose : purposes) {
        const bool first = &purpose == purposes.data();
        table.add({first ? name_of(tier) : "", purpose_text(purpose, stage.cache_dtype),
                   format_size(purpose.bytes)});
        total += purpose.bytes;
      }
      if (purposes.empty()) continue;
      table.add({"", "total", format_size(total),
                 of_budget(total, stage.tiers[static_cast<std::size_t>(t)].budget)});
      empty = false;
    }
    out += empty ? std::string("  nothing planned\n") : table.text(2);
  }
  return out;
}

}  // namespace sluice::launcher
