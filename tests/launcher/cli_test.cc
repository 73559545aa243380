#include "launcher/config/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/config/cli_help.h"
#include "launcher/config/commands/pages.h"
#include "launcher/config/config_yaml.h"
#include "launcher/config/version.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

ParsedCommand parse(std::vector<const char*> words) {
  words.insert(words.begin(), "sluice");
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

std::string problem_of(const std::vector<const char*>& words) {
  try {
    parse(words);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(none)";
}

/// `generate --model m --prompt p` and `words`.
std::vector<const char*> generate(std::initializer_list<const char*> words) {
  std::vector<const char*> all = {"generate", "--model", "m", "--prompt", "p"};
  all.insert(all.end(), words);
  return all;
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text)
      : path_(std::filesystem::path(testing::TempDir()) /
              ("sluice_cli_" +
               std::string(testing::UnitTest::GetInstance()->current_test_info()->name()))) {
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const char* path() const { return path_.c_str(); }

 private:
  std::filesystem::path path_;
};

/// The words of `line`, parsed.
ParsedCommand parse_line(const std::string& line) {
  std::istringstream stream(line);
  const std::vector<std::string> words(std::istream_iterator<std::string>(stream), {});
  std::vector<const char*> pointers;
  for (const std::string& word : words) pointers.push_back(word.c_str());
  return parse(pointers);
}

TEST(Cli, FlagsOfTheRunReachTheirKeys) {
  const ParsedCommand parsed = parse_line(
      "generate --path m --weights dummy --input in.jsonl --output out.jsonl --resume --dry-run "
      "--offload-dir /scratch --gpu-batch-size 9 --num-gpu-batches 3 --micro-batches 5 "
      "--max-batch-tokens 99 --report r.json --trace t.json --quiet --color never");
  EXPECT_EQ(parsed.command, Command::generate);
  EXPECT_TRUE(parsed.dry_run);
  EXPECT_FALSE(parsed.print_config);
  const RunConfig& config = parsed.config;
  EXPECT_EQ(config.model, "m");
  EXPECT_EQ(config.weights, WeightsFrom::dummy);
  EXPECT_EQ(config.job.input, "in.jsonl");
  EXPECT_EQ(config.job.output, "out.jsonl");
  EXPECT_TRUE(config.job.resume);
  EXPECT_EQ(config.io_directory, "/scratch");
  EXPECT_EQ(config.batching.gpu_batch_size, 9);
  EXPECT_EQ(config.batching.num_gpu_batches, 3);
  EXPECT_EQ(config.batching.micro_batches, 5);
  EXPECT_EQ(config.batching.max_tokens_per_gpu_batch, 99);
  EXPECT_EQ(config.report.file, "r.json");
  EXPECT_EQ(config.report.trace, "t.json");
  EXPECT_TRUE(config.report.quiet);
  EXPECT_EQ(config.report.color, ColorMode::never);
}

TEST(Cli, FlagsOfGenerationReachTheirKeys) {
  const ParsedCommand parsed = parse_line(
      "generate --model m --prompt p --max-new-tokens 7 --temperature 0.5 --top-k 40 --top-p 0.9 "
      "--repetition-penalty 1.2 --seed 11 --stop \\n --stop a\\\\b --stop [x,y] --stop-token-id 3 "
      "--stop-token-id 5 --ignore-eos --skip-special-tokens 0 --logprobs 4 --echo");
  const GenerationDefaults& generation = parsed.config.generation;
  EXPECT_EQ(generation.max_new_tokens, 7);
  EXPECT_EQ(generation.sampling.temperature, 0.5F);
  EXPECT_EQ(generation.sampling.top_k, 40);
  EXPECT_EQ(generation.sampling.top_p, 0.9F);
  EXPECT_EQ(generation.sampling.repetition_penalty, 1.2F);
  EXPECT_EQ(generation.sampling.seed, 11U);
  EXPECT_EQ(generation.stop, (std::vector<std::string>{"\n", "a\\b", "[x,y]"}));
  EXPECT_EQ(generation.stop_token_ids, (std::vector<std::int32_t>{3, 5}));
  EXPECT_TRUE(generation.ignore_eos);
  EXPECT_FALSE(generation.skip_special_tokens);
  EXPECT_EQ(generation.sampling.logprobs, 4);
  EXPECT_TRUE(generation.echo);
}

TEST(Cli, FlagsOfStagesReachTheirKeys) {
  const ParsedCommand parsed = parse_line(
      "generate --model m --prompt p --device-memory 16GiB --host-memory 64GiB --disk-memory 1e12 "
      "--pin-weight 0 --cpu-cache-compute --cache-dtype bf16 --weight-slots 4 --device cuda:1 "
      "--threads 6 --percent 20 50 0 100 99.5 0.5");
  const stage::StageConfig& stage = parsed.config.stage_defaults;
  EXPECT_EQ(stage.budgets.bytes,
            (offload::PerTier<std::uint64_t>{16ULL << 30U, 64ULL << 30U, 1000000000000ULL}));
  EXPECT_EQ(stage.device, "cuda:1");
  EXPECT_EQ(stage.threads, 6);
  EXPECT_FALSE(stage.policy.pin_weight);
  EXPECT_TRUE(stage.policy.cpu_cache_compute);
  EXPECT_EQ(stage.policy.cache_dtype, DType::bf16);
  EXPECT_EQ(stage.policy.weight_slots, 4);
  EXPECT_EQ(stage.policy.weights.device, 20);
  EXPECT_EQ(stage.policy.weights.host, 50);
  EXPECT_EQ(stage.policy.weights.disk, 30);
  EXPECT_EQ(stage.policy.cache.host, 100);
  EXPECT_EQ(stage.policy.cache.disk, 0);
  EXPECT_EQ(stage.policy.activations.device, 99.5);
  EXPECT_EQ(stage.policy.activations.disk, 0);
}

// FlexGen's --compress-weight and --compress-cache are switches, and mean 4 bits.
TEST(Cli, CompressionTakesAValueOrNone) {
  const auto policy = [](std::initializer_list<const char*> words) {
    return parse(generate(words)).config.stage_defaults.policy;
  };
  using offload::Compression;
  EXPECT_EQ(policy({}).compress_weight, Compression::none);
  EXPECT_EQ(policy({"--compress-weight"}).compress_weight, Compression::four_bit);
  EXPECT_EQ(policy({"--compress-weight", "--echo"}).compress_weight, Compression::four_bit);
  EXPECT_EQ(policy({"--compress-weight", "4bit"}).compress_weight, Compression::four_bit);
  EXPECT_EQ(policy({"--compress-weight", "8bit", "--echo"}).compress_weight,
            Compression::eight_bit);
  EXPECT_EQ(policy({"--compress-weight=8bit"}).compress_weight, Compression::eight_bit);
  EXPECT_EQ(policy({"--compress-weight", "none"}).compress_weight, Compression::none);
  EXPECT_EQ(policy({"--compress-cache"}).cache_dtype, DType::q4);
  EXPECT_EQ(policy({"--attn-sparsity", "0.1"}).kept_millionths(), 100'000);
  EXPECT_EQ(policy({"--compress-cache", "--compress-weight"}).cache_dtype, DType::q4);
  EXPECT_EQ(policy({"--compress-cache", "8bit"}).cache_dtype, DType::q8);
  EXPECT_EQ(policy({}).cache_dtype, std::nullopt);
  EXPECT_EQ(policy({"--cache-dtype", "auto"}).cache_dtype, std::nullopt);
  EXPECT_EQ(policy({"--cache-dtype", "f32"}).cache_dtype, DType::f32);
  EXPECT_EQ(policy({"--cache-dtype", "q8"}).cache_dtype, DType::q8);
  EXPECT_EQ(policy({"--cache-dtype", "q4"}).cache_dtype, DType::q4);
  EXPECT_EQ(parse(generate({"--packed-dir", "there"})).config.packed_directory, "there");

  EXPECT_THAT(problem_of(generate({"--compress-weight", "2bit"})),
              testing::AllOf(HasSubstr("--compress-weight"), HasSubstr("2bit")));
  EXPECT_THAT(
      problem_of(generate({"--compress-cache", "q4"})),
      testing::AllOf(HasSubstr("'q4' is neither 4bit nor 8bit"), HasSubstr("--cache-dtype")));
  EXPECT_THAT(problem_of(generate({"--compress-cache", "--cache-dtype", "f16"})),
              HasSubstr("--compress-cache and --cache-dtype both say"));

  const auto inspect = [](std::initializer_list<const char*> words) {
    std::vector<const char*> all = {"inspect", "--model", "m"};
    all.insert(all.end(), words);
    return all;
  };
  EXPECT_EQ(parse(inspect({})).inspect.compress_weight, Compression::none);
  EXPECT_EQ(parse(inspect({"--compress-weight"})).inspect.compress_weight, Compression::four_bit);
  EXPECT_EQ(parse(inspect({"--compress-weight", "8bit"})).inspect.compress_weight,
            Compression::eight_bit);
  EXPECT_THAT(problem_of(inspect({"--compress-weight", "16bit"})), HasSubstr("not '16bit'"));
}

TEST(Cli, MadeUpPrompts) {
  const RunConfig config = parse({"generate", "--model", "m", "--prompt-len", "512", "--gen-len",
                                  "8", "--num-prompts", "3"})
                               .config;
  EXPECT_EQ(config.job.prompt_len, 512);
  EXPECT_EQ(config.job.gen_len, 8);
  EXPECT_EQ(config.job.num_prompts, 3);
}

TEST(Cli, TextsAreTakenAsTheyAre) {
  for (const char* prompt : {"[a,b]", "12", "true", "inspect", "-1", " x ", "é", "a=b", "%d"}) {
    EXPECT_EQ(parse({"generate", "--model", "m", "--prompt", prompt}).config.job.prompt, prompt);
  }
  EXPECT_EQ(parse({"generate", "--model", "m", "--prompt=--model"}).config.job.prompt, "--model");
}

TEST(Cli, FlagsWinOverTheFileAndTheFileOverDefaults) {
  const TemporaryFile file(
      "model: of-file\n"
      "batching: {gpu_batch_size: 3, num_gpu_batches: 2}\n"
      "stage_defaults: {threads: 1, policy: {cache: [0, 100, 0]}}\n"
      "stages: [{layers: 2, device: cpu, threads: 2}, {layers: 2}]\n");
  const RunConfig config =
      parse({"generate", "--config", file.path(), "--gpu-batch-size", "5", "--threads", "7",
             "--percent", "10", "90", "100", "0", "100", "0", "--prompt", "p"})
          .config;
  EXPECT_EQ(config.model, "of-file");
  EXPECT_EQ(config.batching.gpu_batch_size, 5);
  EXPECT_EQ(config.batching.num_gpu_batches, 2);
  EXPECT_EQ(config.batching.micro_batches, 0);
  ASSERT_EQ(config.stages.size(), 2U);
  for (const stage::StageConfig& stage : config.stages) {  // a flag is for every stage
    EXPECT_EQ(stage.threads, 7);
    EXPECT_EQ(stage.policy.weights.host, 90);
    EXPECT_EQ(stage.policy.cache.device, 100);
    EXPECT_EQ(stage.layers, 2);
  }
  EXPECT_EQ(config.stages[0].device, "cpu");
  EXPECT_EQ(config.stages[1].device, "auto");
  EXPECT_EQ(config.stage_defaults.threads, 7);
}

TEST(Cli, APromptGivenByFlagReplacesTheFilesJob) {
  const TemporaryFile file("model: m\njob: {input: i.jsonl, output: o.jsonl, resume: true}\n");
  const JobConfig job = parse({"generate", "--config", file.path(), "--prompt", "p"}).config.job;
  EXPECT_EQ(job.prompt, "p");
  EXPECT_EQ(job.input, "");
  EXPECT_EQ(job.output, "");
  EXPECT_FALSE(job.resume);
  const JobConfig over = parse({"generate", "--config", file.path(), "--overwrite"}).config.job;
  EXPECT_EQ(over.input, "i.jsonl");
  EXPECT_TRUE(over.overwrite);
  EXPECT_FALSE(over.resume);
}

TEST(Cli, PrintedConfigurationGivesTheSameRun) {
  const ParsedCommand first =
      parse(generate({"--percent", "20", "50", "0", "100", "100", "0", "--print-config", "--stop",
                      "\\n", "--top-p", "0.9"}));
  EXPECT_TRUE(first.print_config);
  const TemporaryFile file(to_yaml(first.config));
  EXPECT_EQ(to_yaml(parse({"generate", "--config", file.path()}).config), to_yaml(first.config));
}

TEST(Cli, ProblemsOfTheFileComeWithTheirPlace) {
  const TemporaryFile file("modle: m\n");
  EXPECT_EQ(problem_of({"generate", "--config", file.path(), "--prompt", "p"}),
            std::string(file.path()) + ":1:1: key 'modle': unknown key; did you mean 'model'?");
}

struct Wrong {
  std::vector<const char*> words;
  const char* message;
};

TEST(Cli, RefusesWithTheNearestFlag) {
  const Wrong cases[] = {
      {{}, "no command given; see sluice --help"},
      {{"genrate"}, "'genrate' is not a command; did you mean 'generate'?; see sluice --help"},
      {{"--model", "m"},
       "--model: flags stand after a command, as in sluice generate --model; see sluice --help"},
      {generate({"--max-new-token", "3"}),
       "--max-new-token: unknown flag; did you mean '--max-new-tokens'? (see sluice generate "
       "--help)"},
      {generate({"--topk=3"}),
       "--topk: unknown flag; did you mean '--top-k'? (see sluice generate --help)"},
      {generate({"--beam-search"}), "--beam-search: unknown flag (see sluice generate --help)"},
      {generate({"world"}),
       "'world' does not belong to any flag; texts with spaces need quotes (see sluice generate "
       "--help)"},
      {generate({"--threads"}), "--threads: its value is missing; see sluice --help"},
      {generate({"--threads", "--echo"}),
       "--threads: its value is missing, '--echo' follows; if that is meant, write "
       "--threads=--echo"},
      {generate({"--threads", "1", "--threads", "2"}), "--threads: given more than once"},
      {generate({"--output", ""}), "--output: its value is empty"},
      {generate({"--threads", "two", "--top-p", "2"}),
       "--threads: must be a whole number, not 'two'\n"
       "--top-p: must be more than 0 and at most 1, not '2'"},
      {generate({"--threads", "010"}), "--threads: must be a whole number, not '010'"},
      {generate({"--temperature", "-1"}),
       "--temperature: must be at least 0 and at most 100, not '-1'"},
      {generate({"--temperature", "nan"}), "--temperature: must be a number, not 'nan'"},
      {generate({"--seed", "-1"}),
       "--seed: must be a whole number from 0 to 9223372036854775807, not '-1'"},
      {generate({"--weights", "dumy"}),
       "--weights: must be one of checkpoint, dummy, not 'dumy'; did you mean 'dummy'?"},
      {generate({"--pin-weight", "2"}), "--pin-weight: must be true or false, not '2'"},
      {generate({"--stop", "\\q"}),
       "--stop: '\\q' has a backslash that is not \\n, \\t, \\r or \\\\; write \\\\ for a "
       "backslash"},
      {generate({"--stop", "a\\"}),
       "--stop: 'a\\' has a backslash that is not \\n, \\t, \\r or \\\\; write \\\\ for a "
       "backslash"},
      {generate({"--percent", "80", "40", "0", "100", "0", "100"}),
       "--percent: weights on the GPU (80) and in host memory (40) add up to 120, more than 100"},
      {generate({"--percent", "80", "-1", "0", "100", "0", "100"}),
       "--percent: each of its six numbers must be from 0 to 100, not '-1' (number 2)"},
      {generate({"--percent", "80", "20", "0", "100"}),
       "--percent: needs six numbers, W_gpu W_cpu C_gpu C_cpu A_gpu A_cpu, but got 4"},
      {generate({"--percent", "80", "20", "--echo"}),
       "--percent: needs six numbers, W_gpu W_cpu C_gpu C_cpu A_gpu A_cpu, but got 2"},
      {{"inspect"}, "no model: give --model DIR, or a hub id"},
      {{"inspect", "--model", "m", "--stages", "0", "--host-memory", "x"},
       "--host-memory: 'x' is not a size: it must begin with a number, as in 16GiB, 512 MiB or "
       "1.5e9\n--stages: must be a whole number of at least 1, not '0'"},
      {{"tokenize", "--model", "m", "--decod"},
       "--decod: unknown flag; did you mean '--decode'? (see sluice tokenize --help)"},
  };
  for (const Wrong& wrong : cases) {
    EXPECT_EQ(problem_of(wrong.words), wrong.message) << testing::PrintToString(wrong.words);
  }
}

TEST(Cli, RefusesContradictions) {
  const Wrong cases[] = {
      {{"generate", "--prompt", "p"}, "no model: give --model DIR"},
      {{"generate", "--model", "m"}, "there is nothing to do: give --input FILE"},
      {generate({"--input", "a", "--output", "b"}), "each say where the prompts come from"},
      {generate({"--prompt-len", "3"}), "each say where the prompts come from"},
      {generate({"--gen-len", "3"}), "use --max-new-tokens"},
      {generate({"--num-prompts", "3"}), "needs --prompt-len N"},
      {generate({"--resume"}), "--resume goes on with an --input file"},
      {{"generate", "--model", "m", "--input", "a"}, "--input needs --output FILE"},
      {{"generate", "--model", "m", "--input", "a", "--output", "a"},
       "--input and --output are the same file, 'a'"},
      {{"generate", "--model", "m", "--input", "a", "--output", "b", "--report", "b"},
       "--output and --report are the same file, 'b'"},
      {{"generate", "--model", "m", "--input", "a", "--output", "-", "--resume"},
       "standard output (-) has nothing to go on with"},
      {{"generate", "--model", "m", "--input", "-", "--output", "-", "--report", "-"},
       "--report writes a file"},
      {{"generate", "--model", "m", "--input", "a", "--output", "b", "--resume", "--overwrite"},
       "--resume keeps the answers that are there and --overwrite discards them"},
      {generate({"--gpu-batch-size", "9", "--max-batch-tokens", "8"}), "less than the 9 sequences"},
      {generate({"--num-gpu-batches", "1025"}), "from 1 to 1024"},
      {generate({"--gpu-batch-size", "1000", "--max-batch-tokens", "1000", "--num-gpu-batches",
                 "1000", "--micro-batches", "2"}),
       "more than 1000000 sequences"},
  };
  for (const Wrong& wrong : cases) {
    EXPECT_THAT(problem_of(wrong.words), HasSubstr(wrong.message));
  }
  EXPECT_EQ(problem_of({"generate", "--model", "m", "--dry-run"}), "(none)");
  EXPECT_EQ(problem_of({"generate", "--model", "m", "--dry-run", "--schedule"}), "(none)");
  EXPECT_THAT(problem_of({"generate", "--model", "m", "--prompt", "x", "--schedule"}),
              testing::HasSubstr("give --dry-run with it"));
  EXPECT_EQ(problem_of({"generate", "--print-config"}), "(none)");
}

TEST(Cli, SeesTheSameFileBehindALink) {
  const TemporaryFile file("{}\n");
  const std::string link = std::string(file.path()) + ".link";
  std::filesystem::create_symlink(file.path(), link);
  EXPECT_THAT(
      problem_of({"generate", "--model", "m", "--input", file.path(), "--output", link.c_str()}),
      HasSubstr("are the same file"));
  std::filesystem::remove(link);
}

TEST(Cli, ReadsTheTransport) {
  const TemporaryFile file("model: m\ncomm: {transport: nccl, deadline_seconds: 0.1}\n");
  EXPECT_THAT(problem_of({"generate", "--config", file.path(), "--prompt", "p"}),
              HasSubstr("comm.deadline_seconds is 0.1, not longer than"));
  const TemporaryFile nccl("model: m\ncomm: {transport: nccl}\n");
  const auto transport = [](const ParsedCommand& parsed) { return parsed.config.comm.transport; };
  EXPECT_EQ(transport(parse({"generate", "--model", "m", "--prompt", "p"})),
            comm::Transport::automatic);
  EXPECT_EQ(transport(parse({"generate", "--config", nccl.path(), "--prompt", "p"})),
            comm::Transport::nccl);
  EXPECT_EQ(transport(parse(
                {"generate", "--config", nccl.path(), "--prompt", "p", "--transport", "mpi"})),
            comm::Transport::mpi);
  EXPECT_THAT(problem_of({"generate", "--model", "m", "--prompt", "p", "--transport", "ncl"}),
              HasSubstr("nccl"));
}

TEST(Cli, InspectAndTokenize) {
  const ParsedCommand inspect = parse({"inspect", "--model", "m", "--device-memory", "24GiB",
                                       "--host-memory", "1e9", "--stages", "4", "--json"});
  EXPECT_EQ(inspect.command, Command::inspect);
  EXPECT_EQ(parse({"inspect", "models/demo", "--json"}).inspect.model, "models/demo");
  EXPECT_EQ(parse({"inspect", "--json", "model"}).inspect.model, "model");
  EXPECT_EQ(problem_of({"inspect", "a", "--model", "b"}), "--model: given more than once");
  EXPECT_EQ(inspect.inspect.model, "m");
  EXPECT_EQ(inspect.inspect.device_memory, 24ULL << 30U);
  EXPECT_EQ(inspect.inspect.host_memory, 1000000000U);
  EXPECT_EQ(inspect.inspect.stages, 4);
  EXPECT_TRUE(inspect.inspect.json);
  const ParsedCommand tokenize = parse({"tokenize", "--path", "m", "--jsonl", "--decode"});
  EXPECT_EQ(tokenize.command, Command::tokenize);
  EXPECT_EQ(tokenize.tokenize.model, "m");
  EXPECT_TRUE(tokenize.tokenize.jsonl);
  EXPECT_TRUE(tokenize.tokenize.decode);
  EXPECT_TRUE(parse({"tokenize", "--model", "m", "--messages"}).tokenize.messages);
}

TEST(Cli, HelpAndVersionAreText) {
  EXPECT_THAT(parse({"--help"}).text, HasSubstr(main_usage()));
  EXPECT_THAT(parse({"-h"}).text, HasSubstr("\nCommands:\n  generate                Answers"));
  const std::string help = parse({"generate", "--help"}).text;
  EXPECT_THAT(help, HasSubstr(generate_page().usage()));
  EXPECT_THAT(help, HasSubstr("\n  --model,--path DIR|ID   model folder, .gguf file, or hub id"));
  EXPECT_EQ(parse({"generate", "--model", "m", "-h"}).text, help);
  EXPECT_THAT(parse({"inspect", "--help"}).text, HasSubstr(inspect_page().usage()));
  EXPECT_THAT(parse({"tokenize", "--help"}).text, HasSubstr(tokenize_page().usage()));
  EXPECT_EQ(parse({"version"}).text, std::string("sluice ") + kVersion + "\n");
  EXPECT_EQ(parse({"--version"}).text, std::string("sluice ") + kVersion + "\n");
  EXPECT_EQ(parse({"--help"}).command, Command::print);
}

TEST(CliHelp, ItsExamplesAreAccepted) {
  EXPECT_EQ(problem_of({"generate",
                        "--model",
                        "./opt-30b",
                        "--percent",
                        "20",
                        "50",
                        "0",
                        "100",
                        "100",
                        "0",
                        "--device-memory",
                        "16GiB",
                        "--gpu-batch-size",
                        "16",
                        "--num-gpu-batches",
                        "4",
                        "--input",
                        "prompts.jsonl",
                        "--output",
                        "answers.jsonl"}),
            "(none)");
  EXPECT_EQ(problem_of({"generate", "--model", "./opt-30b", "--percent", "20", "50", "0", "100",
                        "100", "0", "--prompt-len", "512", "--dry-run"}),
            "(none)");
  EXPECT_EQ(problem_of({"inspect", "--model", "./opt-30b", "--device-memory", "24GiB",
                        "--host-memory", "128GiB", "--stages", "2"}),
            "(none)");
}

TEST(Version, IsTheProjects) {
  std::ifstream file(SLUICE_SOURCE_DIR "/CMakeLists.txt");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  EXPECT_THAT(text, HasSubstr(std::string("project(sluice VERSION ") + kVersion + " "));
}

}  // namespace
}  // namespace sluice::launcher
