// What ranks agree on before and between the phases of a job. Every rank gathers the same values
// and decides from them alone, so all ranks leave a phase together.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "comm/gather.h"
#include "comm/world.h"

namespace sluice::comm {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

/// What went wrong on a rank; `done`: nothing.
struct Problem {
  ExitStatus status = ExitStatus::done;
  std::string sentence;
  static auto fields(auto& self) { return std::tie(self.status, self.sentence); }
  bool operator==(const Problem&) const = default;
};

const std::string& value_of(const Facts& facts, const std::string& key) {
  static const std::string kMissing = "(nothing)";
  const auto found =
      std::find_if(facts.begin(), facts.end(), [&](const auto& fact) { return fact.first == key; });
  return found == facts.end() ? kMissing : found->second;
}

/// "f16 on rank 0 (node1), rank 2 (node3); f32 on rank 1 (node2)", or nothing where all are alike.
std::optional<std::string> difference(const std::vector<std::string>& values,
                                      const std::vector<Host>& hosts) {
  std::vector<std::string> distinct;
  for (const std::string& value : values) {
    if (std::find(distinct.begin(), distinct.end(), value) == distinct.end()) {
      distinct.push_back(value);
    }
  }
  if (distinct.size() < 2) return std::nullopt;
  std::vector<std::string> groups;
  for (const std::string& value : distinct) {
    std::vector<std::string> ranks;
    for (std::size_t rank = 0; rank < values.size(); ++rank) {
      if (values[rank] == value)
        ranks.push_back(fmt::format("rank {} ({})", rank, hosts[rank].name));
    }
    groups.push_back(fmt::format("{} on {}", value, fmt::join(ranks, ", ")));
  }
  return fmt::format("{}", fmt::join(groups, "; "));
}

[[noreturn]] void throw_as(ExitStatus status, const std::string& sentence) {
  switch (status) {
    case ExitStatus::usage:
      throw ConfigError(sentence);
    case ExitStatus::bad_input:
      throw InputError(sentence);
    case ExitStatus::no_space:
      throw CapacityError(sentence);
    case ExitStatus::peer_lost:
      throw CommError(sentence);
    default:
      throw Error(status, sentence);
  }
}

}  // namespace

void handshake(World& world, const Facts& facts) {
  const std::vector<Facts> all = gather(world, facts);

  std::vector<std::string> keys;
  for (const Facts& of_rank : all) {
    for (const auto& [key, value] : of_rank) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  std::string table;
  for (const std::string& key : keys) {
    std::vector<std::string> values;
    for (const Facts& of_rank : all) values.push_back(value_of(of_rank, key));
    if (const auto text = difference(values, world.hosts())) {
      table += fmt::format("\n  {}: {}", key, *text);
    }
  }
  if (table.empty()) return;
  throw ConfigError(
      "The ranks of this job differ in what must be alike on all of them; start every rank with "
      "the same program, model and configuration:" +
      table);
}

void agree(World& world, const Error* problem) {
  const Problem mine = problem != nullptr ? Problem{problem->status(), problem->what()} : Problem{};
  const std::vector<Problem> all = gather(world, mine);
  const auto first =
      std::find_if(all.begin(), all.end(), [](const Problem& one) { return one != Problem{}; });
  if (first == all.end()) return;
  const bool everywhere =
      std::all_of(all.begin(), all.end(), [&](const Problem& one) { return one == *first; });
  throw_as(first->status, everywhere
                              ? first->sentence
                              : fmt::format("rank {}: {}", first - all.begin(), first->sentence));
}

}  // namespace sluice::comm
