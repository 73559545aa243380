#include "launcher/config/given_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "kernels/device/error.h"
#include "launcher/config/nearest_name.h"

namespace sluice::launcher {

Flag& GivenFlags::add(const std::string& names) {
  flags_.push_back(std::make_unique<Flag>());
  flags_.back()->name = names.substr(0, names.find(','));
  std::string rest = names;
  for (std::size_t comma = 0; comma != std::string::npos;) {
    comma = rest.find(',');
    // A name without dashes is a positional argument: `sluice inspect DIR`.
    if (rest.starts_with("-")) known_.push_back(rest.substr(0, comma));
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
  }
  return *flags_.back();
}

void GivenFlags::check(const std::string& command, const Words& words,
                       std::vector<std::string>& problems) {
  for (const std::string& extra : extras_) {
    const std::string name = extra.substr(0, extra.find('='));
    if (name.starts_with("-")) {
      problems.push_back(fmt::format("{}: unknown flag{} (see sluice {} --help)", name,
                                     suggestion(name, known_), command));
    } else if (problems.empty()) {  // else it most likely is an unknown flag's value
      problems.push_back(
          fmt::format("'{}' does not belong to any flag; texts with spaces need "
                      "quotes (see sluice {} --help)",
                      extra, command));
    }
  }
  for (const auto& flag : flags_) {
    flag->given = flag->given || !flag->values.empty();
    const std::size_t once = flag->name == "--percent" ? kPercentValues : 1;
    if (!flag->is_list && flag->values.size() > once) {
      problems.push_back(fmt::format("{}: given more than once", flag->name));
    }
    for (const std::string& value : flag->values) {
      if (value.empty()) {
        problems.push_back(fmt::format("{}: its value is empty", flag->name));
      } else if (std::find(known_.begin(), known_.end(), value) != known_.end() &&
                 std::find(words.begin(), words.end(), flag->name + "=" + value) == words.end()) {
        problems.push_back(
            fmt::format("{}: its value is missing, '{}' follows; if that is meant, "
                        "write {}={}",
                        flag->name, value, flag->name, value));
      }
    }
  }
}

const Flag* GivenFlags::find(const std::string& name) const {
  const auto found = std::find_if(flags_.begin(), flags_.end(),
                                  [&](const auto& flag) { return flag->name == name; });
  return found == flags_.end() ? nullptr : found->get();
}

bool GivenFlags::has(const std::string& name) const {
  const Flag* const flag = find(name);
  return flag != nullptr && flag->given;
}

std::string GivenFlags::value(const std::string& name) const {
  const Flag* const flag = find(name);
  return flag == nullptr || flag->values.empty() ? "" : flag->values.front();
}

std::vector<std::string> GivenFlags::values(const std::string& name) const {
  const Flag* const flag = find(name);
  return flag == nullptr ? std::vector<std::string>() : flag->values;
}

void read_count(const GivenFlags& given, const std::string& flag, std::int32_t lowest,
                std::int32_t& number, std::vector<std::string>& problems) {
  if (!given.has(flag)) return;
  const std::string text = given.value(flag);
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  if (result.ec == std::errc() && result.ptr == end && number >= lowest) return;
  problems.push_back(
      fmt::format("{}: must be a whole number of at least {}, not '{}'", flag, lowest, text));
}

void refuse(const std::vector<std::string>& problems) {
  std::string all;
  for (const std::string& problem : problems) all += (all.empty() ? "" : "\n") + problem;
  throw ConfigError(all);
}

}  // namespace sluice::launcher
