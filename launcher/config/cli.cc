#include "launcher/config/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <memory>

#include "kernels/device/error.h"
#include "launcher/config/cli_help.h"
#include "launcher/config/config_reader.h"
#include "launcher/config/config_schema.h"
#include "launcher/config/config_yaml.h"
#include "launcher/config/flag_tree.h"
#include "launcher/config/nearest_name.h"
#include "launcher/config/sizes.h"
#include "launcher/config/version.h"

namespace sluice::launcher {

namespace {

using Words = std::vector<std::string>;

constexpr const char* kCompressWeight = "--compress-weight";
/// The value of --compress-weight and --compress-cache where none is given, as in FlexGen.
constexpr const char* kCompression = "4bit";

constexpr std::size_t kHelpColumn = 26;  // where meanings begin
constexpr std::size_t kHelpWidth = 96;

/// CLI11's layout, with our own text between the description and the flags.
class HelpFormatter final : public CLI::Formatter {
 public:
  explicit HelpFormatter(std::string usage) : usage_(std::move(usage)) {
    column_width(kHelpColumn);
  }
  std::string make_usage(const CLI::App*, std::string) const override { return usage_; }
  std::string make_positionals(const CLI::App*) const override { return {}; }  // flags as well
  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override {
    return Formatter::make_group(group, is_positional, std::move(options)).substr(1);  // one blank
  }

 private:
  std::string usage_;
};

/// One command's flags, handed to CLI11 and filled by it.
class FlagSet {
 public:
  FlagSet(CLI::App& app, std::string usage) : app_(app) {
    app.allow_extras();
    app.formatter(std::make_shared<HelpFormatter>(std::move(usage)));
    app.footer(exit_statuses());
  }

  Flag& add(const FlagHelp& help, const std::string& group, const std::string& path = "",
            std::size_t values = 1, bool is_list = false) {
    const std::string& names = help.flag;
    flags_.push_back(std::make_unique<Flag>());
    Flag& flag = *flags_.back();
    flag.name = names.substr(0, names.find(','));
    flag.path = path;
    flag.takes_value = values > 0;
    flag.is_list = is_list;
    flag.is_boolean = values == 0;
    CLI::Option* const option = values == 0
                                    ? app_.add_flag(names, flag.given)
                                    : app_.add_option(names, flag.values)
                                          ->expected(static_cast<int>(values))
                                          ->allow_extra_args(false)
                                          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
                                          ->option_text(help.value);
    option->configurable(false);
    option->group(group)->description(wrapped(help.meaning, kHelpWidth - kHelpColumn));
    if (flag.name == kCompressWeight || flag.name == kCompressCache) {
      option->expected(0, 1)->default_str(kCompression);
    }
    std::string rest = names;
    for (std::size_t comma = 0; comma != std::string::npos;) {
      comma = rest.find(',');
      // A name without dashes is a positional argument: `sluice inspect DIR`.
      if (rest.starts_with("-")) known_.push_back(rest.substr(0, comma));
      rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    }
    return flag;
  }

  /// Adds a problem for each unknown flag, stray word, repeated flag and missing value: CLI11 would
  /// stop at the first, and suggest nothing. `words` are the command line's. They tell
  /// --prompt=--model from --prompt --model, where the value is missing.
  void check(const std::string& command, const Words& words, std::vector<std::string>& problems) {
    for (const std::string& extra : app_.remaining()) {
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

  const std::vector<std::unique_ptr<Flag>>& flags() const { return flags_; }

  const Flag& flag(const std::string& name) const {
    return **std::find_if(flags_.begin(), flags_.end(),
                          [&](const auto& flag) { return flag->name == name; });
  }
  bool given(const std::string& name) const { return flag(name).given; }
  std::string value(const std::string& name) const {
    const Flag& found = flag(name);
    return found.values.empty() ? "" : found.values.front();
  }

 private:
  CLI::App& app_;
  std::vector<std::unique_ptr<Flag>> flags_;  // CLI11 keeps their addresses
  std::vector<std::string> known_ = {"--help"};
};

/// A flag that names a source of prompts replaces the source in the --config file. --resume and
/// --overwrite likewise replace each other.
void forget_replaced(const FlagSet& set, JobConfig& job) {
  if (set.given("--input") || set.given("--prompt") || set.given("--prompt-len")) {
    if (!set.given("--input")) job.input.clear();
    if (!set.given("--prompt")) job.prompt.clear();
    if (!set.given("--prompt-len")) job.prompt_len = job.gen_len = job.num_prompts = 0;
    if (!set.given("--input") && !set.given("--output")) job.output.clear();
    if (!set.given("--input")) job.resume = job.overwrite = false;
  }
  if (set.given("--resume")) job.overwrite = false;
  if (set.given("--overwrite")) job.resume = false;
}

[[noreturn]] void refuse(const std::vector<std::string>& problems) {
  std::string all;
  for (const std::string& problem : problems) all += (all.empty() ? "" : "\n") + problem;
  throw ConfigError(all);
}

/// The key that a flag is for: the one that lists it, or that it is another way to say.
const KeyDescription* key_of(const std::vector<KeyDescription>& keys, const std::string& names) {
  const std::string flag = names.substr(0, names.find(','));
  if (flag == "--percent") return nullptr;  // three keys
  const std::string listed = flag == kCompressCache ? kCacheDType : flag;
  const auto key = std::find_if(keys.begin(), keys.end(), [&](const KeyDescription& one) {
    return one.flags.substr(0, one.flags.find(',')) == listed;
  });
  return key == keys.end() ? nullptr : &*key;
}

void add_flags(FlagSet& set, const std::vector<FlagGroup>& groups) {
  const std::vector<KeyDescription> keys = describe_keys();
  for (const FlagGroup& group : groups) {
    for (const FlagHelp& help : group.flags) {
      const KeyDescription* const key = key_of(keys, help.flag);
      const std::size_t values = help.flag == "--percent" ? kPercentValues
                                 : help.value.empty()     ? 0
                                                          : 1;
      set.add(help, group.title, key == nullptr ? "" : key->path, values,
              key != nullptr && key->is_list);
    }
  }
}

void read_generate(FlagSet& set, const Words& words, ParsedCommand& parsed) {
  std::vector<std::string> problems;
  set.check("generate", words, problems);
  const ConfigNode tree = tree_of(set.flags(), problems);
  if (!problems.empty()) refuse(problems);
  if (set.given("--config")) read_config_file(set.value("--config"), parsed.config);
  forget_replaced(set, parsed.config.job);

  ConfigProblems wrong;
  read_config(tree, "", parsed.config, wrong);
  refuse_problems(std::move(wrong));
  for (const ConfigNode& item : tree.items) {
    if (item.key != "stage_defaults") continue;
    ConfigProblems seen;  // the same values passed for stage_defaults just now
    for (stage::StageConfig& stage : parsed.config.stages) read_stage(item, "", stage, seen);
  }
  parsed.print_config = set.given("--print-config");
  parsed.dry_run = set.given("--dry-run");
  parsed.schedule = set.given("--schedule");
  if (parsed.print_config) return;  // a configuration may be looked at before it is complete
  problems = contradictions(parsed.config, !parsed.dry_run);
  if (parsed.schedule && !parsed.dry_run) {
    problems.emplace_back("--schedule prints what a dry run plans; give --dry-run with it");
  }
  if (!problems.empty()) refuse(problems);
}

void read_inspect(FlagSet& set, const Words& words, InspectArguments& arguments) {
  std::vector<std::string> problems;
  set.check("inspect", words, problems);
  RunConfig config;  // of which the flags say a part
  ConfigProblems wrong;
  read_config(tree_of(set.flags(), problems), "", config, wrong);
  for (const ConfigProblem& problem : wrong) problems.push_back(problem.sentence);
  arguments.model = set.value("--model");
  arguments.device_memory = config.stage_defaults.budgets.bytes[0];
  arguments.host_memory = config.stage_defaults.budgets.bytes[1];
  arguments.compress_weight = config.stage_defaults.policy.compress_weight;
  arguments.json = set.given("--json");
  if (set.given("--stages")) {
    const std::string text = set.value("--stages");
    const char* const end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, arguments.stages);
    if (result.ec != std::errc() || result.ptr != end || arguments.stages < 1) {
      problems.push_back(
          fmt::format("--stages: must be a whole number of at least 1, not '{}'", text));
    }
  }
  if (arguments.model.empty()) problems.emplace_back("no model: give --model DIR, or a hub id");
  if (!problems.empty()) refuse(problems);
}

void read_tokenize(FlagSet& set, const Words& words, TokenizeArguments& arguments) {
  std::vector<std::string> problems;
  set.check("tokenize", words, problems);
  arguments.model = set.value("--model");
  arguments.jsonl = set.given("--jsonl");
  arguments.decode = set.given("--decode");
  arguments.explain = set.given("--explain");
  arguments.messages = set.given("--messages");
  if (arguments.messages && arguments.decode) {
    problems.emplace_back("--messages and --decode contradict each other; give one of them");
  }
  if (arguments.model.empty()) problems.emplace_back("no model: give --model DIR, or a hub id");
  if (!problems.empty()) refuse(problems);
}

std::string version_text() { return fmt::format("sluice {}\n", kVersion); }

[[noreturn]] void refuse_command(const std::vector<std::string>& words) {
  const std::string word = words.empty() ? "" : words.front();
  const std::vector<std::string> commands = {"generate", "inspect", "tokenize", "version"};
  if (word.empty()) throw ConfigError("no command given; see sluice --help");
  throw ConfigError(word.starts_with("-")
                        ? fmt::format("{}: flags stand after a command, as in sluice generate {}; "
                                      "see sluice --help",
                                      word, word)
                        : fmt::format("'{}' is not a command{}; see sluice --help", word,
                                      suggestion(word, commands)));
}

}  // namespace

ParsedCommand parse_command_line(int argc, const char* const* argv) {
  CLI::App app("sluice runs language models that are larger than the memory of your GPUs.");
  FlagSet main_set(app, main_usage());
  app.set_help_flag("-h,--help", "print this")->group("Flags");
  app.set_version_flag("--version", version_text(), "print the version")->group("Flags");
  const auto add_command = [&](const char* name, const char* description) {
    CLI::App* const command = app.add_subcommand(name, description)->group("Commands");
    command->get_help_ptr()->group("Flags");
    return command;
  };
  CLI::App* const generate =
      add_command("generate", "Answers prompts: from a file, one given, or made up to measure");
  CLI::App* const inspect =
      add_command("inspect", "Says what a model is, and whether it fits, without loading it");
  CLI::App* const tokenize =
      add_command("tokenize", "Turns text on standard input into token ids, and back");
  CLI::App* const version = add_command("version", "Prints the version");
  FlagSet generate_set(*generate, generate_usage());
  add_flags(generate_set, generate_flags());
  FlagSet inspect_set(*inspect, inspect_usage());
  add_flags(inspect_set, inspect_flags());
  FlagSet tokenize_set(*tokenize, tokenize_usage());
  add_flags(tokenize_set, tokenize_flags());

  ParsedCommand parsed;
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.text = app.help();
    return parsed;
  } catch (const CLI::CallForVersion&) {
    parsed.text = version_text();
    return parsed;
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string_view sentence = error.what();
    throw ConfigError(fmt::format("{}: its value is missing; see sluice --help",
                                  sentence.substr(0, sentence.find(':'))));
  } catch (const CLI::ParseError& error) {
    throw ConfigError(fmt::format("{}; see sluice --help", error.what()));
  }

  const Words words(argv, argv + argc);
  if (version->parsed()) {
    parsed.text = version_text();
  } else if (generate->parsed()) {
    parsed.command = Command::generate;
    read_generate(generate_set, words, parsed);
  } else if (inspect->parsed()) {
    parsed.command = Command::inspect;
    read_inspect(inspect_set, words, parsed.inspect);
  } else if (tokenize->parsed()) {
    parsed.command = Command::tokenize;
    read_tokenize(tokenize_set, words, parsed.tokenize);
  } else {
    refuse_command(app.remaining());
  }
  return parsed;
}

std::string command_line_text(int argc, const char* const* argv) {
  std::string line;
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    const bool plain =
        !word.empty() &&
        word.find_first_not_of(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:%@") ==
            std::string::npos;
    line += i > 0 ? " " : "";
    if (plain) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

}  // namespace sluice::launcher
