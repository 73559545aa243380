#include "kernels/cuda/locality.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <fstream>

namespace sluice::cuda {

namespace {

/// Reads a number at `at` and moves behind it; -1: there is none.
int number_at(const std::string& text, std::size_t& at) {
  int number = -1;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + at, end, number);
  if (error != std::errc()) return -1;
  at = static_cast<std::size_t>(rest - text.data());
  return number;
}

}  // namespace

std::optional<cpu_set_t> processors_of(const std::string& list) {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::size_t at = 0;
  while (at < list.size()) {
    const int first = number_at(list, at);
    int last = first;
    if (at < list.size() && list[at] == '-') last = number_at(list, ++at);
    if (first < 0 || last < first || last >= CPU_SETSIZE) return std::nullopt;
    for (int cpu = first; cpu <= last; ++cpu) CPU_SET(static_cast<unsigned>(cpu), &set);
    if (at < list.size() && list[at++] != ',') return std::nullopt;
  }
  if (CPU_COUNT(&set) == 0) return std::nullopt;
  return set;
}

std::optional<cpu_set_t> processors_near(const std::string& pci_id,
                                         const std::filesystem::path& devices) {
  std::string name = pci_id;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  std::ifstream file(devices / name / "local_cpulist");
  std::string list;
  if (!std::getline(file, list)) return std::nullopt;
  return processors_of(list);
}

bool stay_near(const cpu_set_t& near, int threads) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return false;
  cpu_set_t both;
  CPU_AND(&both, &near, &allowed);
  if (CPU_COUNT(&both) < threads || CPU_EQUAL(&both, &allowed)) return false;
  return sched_setaffinity(0, sizeof(both), &both) == 0;
}

}  // namespace sluice::cuda
