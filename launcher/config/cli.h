// The command line: `sluice COMMAND [FLAGS]`. The only file of sluice that knows CLI11 is cli.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/config/bench_arguments.h"
#include "launcher/config/launch_arguments.h"
#include "launcher/config/merge_arguments.h"
#include "launcher/config/run_config.h"
#include "launcher/config/score_arguments.h"
#include "launcher/config/serve_arguments.h"

namespace sluice::launcher {

/// `sluice inspect`: what a model is and whether it fits, without loading it.
struct InspectArguments {
  std::string model;
  std::uint64_t device_memory = 0;  // bytes; 0: not said
  std::uint64_t host_memory = 0;    // bytes; 0: not said
  std::int32_t stages = 1;
  offload::Compression compress_weight = offload::Compression::none;
  bool json = false;
};

/// `sluice tokenize`: text to ids, line by line, or back.
struct TokenizeArguments {
  std::string model;
  bool jsonl = false;
  bool decode = false;
  bool explain = false;
  bool messages = false;
};

/// `sluice calibrate`: measures this machine.
struct CalibrateArguments {
  std::string output;           // empty: the cache folder's
  std::string device = "auto";  // as stage_defaults.device
  std::int32_t threads = 0;     // of a CPU; 0: all that this process may use
  std::string directory;        // whose disk is measured
  bool quiet = false;
};

/// `sluice plan`: how a job should run on a machine.
struct PlanArguments {
  std::int32_t stages = 0;   // 0: those of the configuration, or one for each device of the machine
  double latency_limit = 0;  // seconds; 0: any
  std::vector<offload::Compression> compressions;  // of weights, allowed beside what is asked for
  std::vector<DType> cache_dtypes;                 // likewise
  std::string json;                                // file of plan and prediction; empty: none
  std::string output;                              // file of the plan, as YAML; empty: none
  bool explain = false;  // also other plans, other machines, the curve of latency
};

enum class Command : std::uint8_t {
  print,
  generate,
  plan,
  simulate,
  inspect,
  tokenize,
  calibrate,
  bench,
  merge,
  launch,
  score,
  serve,
  chat
};

struct ParsedCommand {
  Command command = Command::print;
  std::string text;  // print: goes to standard output as it is, and the status is 0 (help, version)

  RunConfig config;           // of a run: defaults, then --config, then flags
  std::int32_t ranks = 0;     // simulate: in the place of mpirun's; 0: as the configuration says
  bool print_config = false;  // generate: print to_yaml(config) and end
  bool dry_run = false;       // generate: print layer split and memory table and end
  bool schedule = false;      // generate: with dry_run, print the tasks of a pass too

  PlanArguments plan;
  InspectArguments inspect;
  TokenizeArguments tokenize;
  BenchArguments bench;
  CalibrateArguments calibrate;
  MergeArguments merge;
  ScoreArguments score;
  ServeArguments serve;
  LaunchArguments launch;
};

/// Reads the --config file too. Throws ConfigError, with one problem per line: unknown commands and
/// flags with the nearest known one, values out of range, contradictions.
ParsedCommand parse_command_line(int argc, const char* const* argv);

/// The arguments in one line that a shell would read back, for reports.
std::string command_line_text(int argc, const char* const* argv);

}  // namespace sluice::launcher
