// What ranks agree on before and between the phases of a job, told apart by text: a gather, then
// the same decision on every rank, so that no rank is left waiting in a phase that another gave up.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "comm/world.h"

namespace sluice::comm {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

// Length-prefixed, so that no key or value has to be free of any character.
void append_text(std::string& target, const std::string& text) {
  target += fmt::format("{}:{}", text.size(), text);
}

std::string take_text(std::string_view& source) {
  std::size_t length = 0;
  const auto [end, error] = std::from_chars(source.data(), source.data() + source.size(), length);
  const auto digits = static_cast<std::size_t>(end - source.data());
  if (error != std::errc() || digits >= source.size() || source[digits] != ':' ||
      length > source.size() - digits - 1) {
    throw CommError(
        "A rank answered the start-up handshake in a form this program does not know; start the "
        "same version of sluice on every rank.");
  }
  std::string text(source.substr(digits + 1, length));
  source.remove_prefix(digits + 1 + length);
  return text;
}

Facts take_facts(std::string_view source) {
  Facts facts;
  while (!source.empty()) {
    std::string key = take_text(source);
    facts.emplace_back(std::move(key), take_text(source));
  }
  return facts;
}

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
  std::string mine;
  for (const auto& [key, value] : facts) {
    append_text(mine, key);
    append_text(mine, value);
  }
  std::vector<Facts> all;
  for (const std::string& text : world.gather(mine)) all.push_back(take_facts(text));

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
      "the "
      "same program, model and configuration:" +
      table);
}

void agree(World& world, const Error* problem) {
  // "" where it went well, else the status and the sentence.
  std::string mine;
  if (problem != nullptr) {
    append_text(mine, std::to_string(static_cast<int>(problem->status())));
    append_text(mine, problem->what());
  }
  const std::vector<std::string> all = world.gather(mine);
  const auto first =
      std::find_if(all.begin(), all.end(), [](const std::string& text) { return !text.empty(); });
  if (first == all.end()) return;

  std::string_view rest = *first;
  const std::string status_text = take_text(rest);
  int status = 0;
  std::from_chars(status_text.data(), status_text.data() + status_text.size(), status);
  std::string sentence = take_text(rest);
  const bool everywhere =
      std::all_of(all.begin(), all.end(), [&](const std::string& text) { return text == *first; });
  if (!everywhere) sentence = fmt::format("rank {}: {}", first - all.begin(), sentence);
  throw_as(static_cast<ExitStatus>(status), sentence);
}

}  // namespace sluice::comm
