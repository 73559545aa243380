#include "launcher/config/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "kernels/device/error.h"
#include "launcher/config/commands/pages.h"
#include "launcher/config/config_schema.h"
#include "launcher/config/nearest_name.h"
#include "launcher/config/version.h"

namespace sluice::launcher {

namespace {

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

/// One command's flags, handed to CLI11 and filled by it.
class FlagSet {
 public:
  FlagSet(CLI::App& app, std::string usage) : app_(app) {
    app.allow_extras();
    app.formatter(std::make_shared<HelpFormatter>(std::move(usage)));
    app.footer(exit_statuses());
  }

  void add(const std::vector<FlagGroup>& groups) {
    const std::vector<KeyDescription> keys = describe_keys();
    for (const FlagGroup& group : groups) {
      for (const FlagHelp& help : group.flags) add(help, group.title, key_of(keys, help.flag));
    }
  }

  /// After parsing.
  GivenFlags& given() {
    given_.set_extras(app_.remaining());
    return given_;
  }

 private:
  void add(const FlagHelp& help, const std::string& group, const KeyDescription* key) {
    const std::size_t values = help.flag == "--percent" ? kPercentValues
                               : help.value.empty()     ? 0
                                                        : 1;
    Flag& flag = given_.add(help.flag);
    flag.path = key == nullptr ? "" : key->path;
    flag.takes_value = values > 0;
    flag.is_list = help.is_list || (key != nullptr && key->is_list);
    flag.is_boolean = values == 0;
    CLI::Option* const option = values == 0
                                    ? app_.add_flag(help.flag, flag.given)
                                    : app_.add_option(help.flag, flag.values)
                                          ->expected(static_cast<int>(values))
                                          ->allow_extra_args(false)
                                          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
                                          ->option_text(help.value);
    if (help.is_list) option->expected(-1)->allow_extra_args(true);
    option->configurable(false);
    option->group(group)->description(wrapped(help.meaning, kHelpWidth - kHelpColumn));
    if (flag.name == kCompressWeight || flag.name == kCompressCache) {
      option->expected(0, 1)->default_str(kCompression);
    }
  }

  CLI::App& app_;
  GivenFlags given_;
};

std::string version_text() { return fmt::format("sluice {}\n", kVersion); }

[[noreturn]] void refuse_command(const Words& words) {
  const std::string word = words.empty() ? "" : words.front();
  Words commands = {"version"};
  for (const CommandPage* page : command_pages()) commands.emplace_back(page->name);
  if (word.empty()) throw ConfigError("no command given; see sluice --help");
  throw ConfigError(word.starts_with("-")
                        ? fmt::format("{}: flags stand after a command, as in sluice generate {}; "
                                      "see sluice --help",
                                      word, word)
                        : fmt::format("'{}' is not a command{}; see sluice --help", word,
                                      suggestion(word, commands)));
}

/// As CLI11 wants them: the last one first, without the program's name. CLI11 takes the name of a
/// command for that command wherever it stands: `bench generate` would be two.
Words arguments_of(int argc, const char* const* argv) {
  Words words(argv + std::min(argc, 1), argv + argc);
  // What `launch` starts is read by itself.
  if (!words.empty() && words[0] == "launch") words.erase(find_run(words), words.end());
  if (words.size() > 1 && words[0] == "bench" && !words[1].starts_with("-")) {
    words[1].insert(0, "--case=");
  }
  std::reverse(words.begin(), words.end());
  return words;
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
  std::vector<std::unique_ptr<FlagSet>> sets;  // CLI11 keeps their addresses
  for (const CommandPage* page : command_pages()) {
    sets.push_back(
        std::make_unique<FlagSet>(*add_command(page->name, page->description), page->usage()));
    sets.back()->add(page->flags());
  }
  const CLI::App* const version = add_command("version", "Prints the version");

  ParsedCommand parsed;
  try {
    app.parse(arguments_of(argc, argv));
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
    return parsed;
  }
  for (std::size_t i = 0; i < sets.size(); ++i) {
    const CommandPage& page = *command_pages()[i];
    if (!app.got_subcommand(page.name)) continue;
    page.read(sets[i]->given(), words, parsed);
    return parsed;
  }
  refuse_command(app.remaining());
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
