#include "launcher/config/config_yaml.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

RunConfig read(const std::string& yaml) {
  RunConfig config;
  read_config_text(yaml, "run.yaml", config);
  return config;
}

std::string problem_of(const std::string& yaml) {
  try {
    read(yaml);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(none)";
}

TEST(ConfigYaml, ReadsEveryPart) {
  const RunConfig config = read(R"(
model: facebook/opt-1.3b
weights: dummy
stages:                      # stands before stage_defaults, and still begins with them
  - layers: 12
  - layers: 12-23
    device: cuda:1
    budget: {device: 24GiB}
    policy: {weights: {device: 50, host: 50}, weight_slots: 3}
stage_defaults:
  device: cpu
  threads: 4
  budget: {device: 16GiB, host: 64 GiB, disk: 1TiB}
  policy:
    weights: [30, 40, 30]
    cache: [0, 100, 0]
    activations: [99.5, 0.5, 0]
    cpu_cache_compute: true
    pin_weight: false
    cache_dtype: f16
batching: {gpu_batch_size: 16, num_gpu_batches: 2, micro_batches: 3, max_tokens_per_gpu_batch: 64}
io: {directory: "/scratch"}
comm: {transport: mpi, heartbeat_seconds: 0.25, deadline_seconds: 10}
generation:
  max_new_tokens: 7
  temperature: 0.7
  stop: ["\n", END]
  stop_token_ids: [2, 50118]
  seed: 9223372036854775807
)");
  EXPECT_EQ(config.model, "facebook/opt-1.3b");
  EXPECT_EQ(config.weights, WeightsFrom::dummy);
  ASSERT_EQ(config.stages.size(), 2U);
  const stage::StageConfig& first = config.stages[0];
  const stage::StageConfig& second = config.stages[1];
  EXPECT_EQ(first.first_layer, 0);
  EXPECT_EQ(first.layers, 12);
  EXPECT_EQ(first.device, "cpu");
  EXPECT_EQ(first.threads, 4);
  EXPECT_EQ(first.budgets.bytes,
            (offload::PerTier<std::uint64_t>{16ULL << 30U, 64ULL << 30U, 1ULL << 40U}));
  EXPECT_EQ(first.policy.weights.disk, 30);
  EXPECT_EQ(first.policy.activations.host, 0.5);
  EXPECT_TRUE(first.policy.cpu_cache_compute);
  EXPECT_FALSE(first.policy.pin_weight);
  EXPECT_EQ(first.policy.cache_dtype, DType::f16);
  EXPECT_EQ(second.first_layer, 12);
  EXPECT_EQ(second.layers, 12);
  EXPECT_EQ(second.device, "cuda:1");
  EXPECT_EQ(second.budgets.bytes[0], 24ULL << 30U);
  EXPECT_EQ(second.budgets.bytes[1], 64ULL << 30U);
  EXPECT_EQ(second.policy.weights.device, 50);
  EXPECT_EQ(second.policy.weights.disk, 0);
  EXPECT_EQ(second.policy.weight_slots, 3);
  EXPECT_EQ(config.batching.slots(2), 96);
  EXPECT_EQ(config.batching.max_tokens_per_gpu_batch, 64);
  EXPECT_EQ(config.io_directory, "/scratch");
  EXPECT_EQ(config.comm.heartbeat_seconds, 0.25);
  EXPECT_EQ(config.generation.sampling.temperature, 0.7F);
  EXPECT_EQ(config.generation.stop, (std::vector<std::string>{"\n", "END"}));
  EXPECT_EQ(config.generation.stop_token_ids, (std::vector<std::int32_t>{2, 50118}));
  EXPECT_EQ(config.generation.sampling.seed, 9223372036854775807U);
}

TEST(ConfigYaml, AnEmptyFileChangesNothing) {
  for (const char* yaml : {"", "# nothing\n", "---\n", "{}"}) {
    EXPECT_EQ(to_yaml(read(yaml)), to_yaml(RunConfig())) << yaml;
  }
}

TEST(ConfigYaml, KeepsWhatTheFileDoesNotSay) {
  RunConfig config;
  config.batching.gpu_batch_size = 3;
  read_config_text("batching: {num_gpu_batches: 5}", "run.yaml", config);
  EXPECT_EQ(config.batching.gpu_batch_size, 3);
  EXPECT_EQ(config.batching.num_gpu_batches, 5);
}

TEST(ConfigYaml, AFileWithAProblemChangesNothing) {
  RunConfig config;
  const std::string before = to_yaml(config);
  EXPECT_THROW(read_config_text("model: x\nthreads: 1\n", "run.yaml", config), ConfigError);
  EXPECT_EQ(to_yaml(config), before);
}

TEST(ConfigYaml, PrintsWhatItReadsBack) {
  RunConfig config = read(R"(
model: "a \"quoted\" \\ name: # {x}"
stages: [{layers: 0-3, threads: 2}, {layers: 5, policy: {cache: [10, 20, 70]}}]
stage_defaults: {budget: {device: 1000, host: 1.5GiB}, policy: {weights: [33.3, 33.3, 33.4]}}
generation: {top_p: 0.95, repetition_penalty: 1.1, stop: ["\t|\n", "é", "\x01"], logprobs: 5}
job: {prompt: "two\nlines", resume: true}
report: {color: never, quiet: true}
)");
  const std::string yaml = to_yaml(config);
  EXPECT_EQ(to_yaml(read(yaml)), yaml);
  const RunConfig again = read(yaml);
  EXPECT_EQ(again.model, config.model);
  EXPECT_EQ(again.job.prompt, "two\nlines");
  EXPECT_EQ(again.generation.stop, config.generation.stop);
  EXPECT_EQ(again.generation.sampling.top_p, 0.95F);
  EXPECT_EQ(again.stages[1].first_layer, 4);
  EXPECT_EQ(again.stages[1].layers, 5);
  EXPECT_EQ(again.stages[0].policy.weights.disk, 33.4);
  EXPECT_EQ(to_yaml(read(to_yaml(RunConfig()))), to_yaml(RunConfig()));
}

struct Wrong {
  const char* yaml;
  const char* message;
};

class ConfigYamlWrong : public testing::TestWithParam<Wrong> {};

TEST_P(ConfigYamlWrong, SaysWhereAndWhat) {
  EXPECT_EQ(problem_of(GetParam().yaml), GetParam().message);
}

constexpr Wrong kWrong[] = {
    // Keys.
    {"modle: x\n", "run.yaml:1:1: key 'modle': unknown key; did you mean 'model'?"},
    {"zzz: x\n", "run.yaml:1:1: key 'zzz': unknown key"},
    {"stages:\n  - layers: 1\n  - layers: 1\n    polciy: {}\n",
     "run.yaml:4:5: key 'stages[1].polciy': unknown key; did you mean 'policy'?"},
    {"batching: {gpu_batch_sise: 1}\n",
     "run.yaml:1:12: key 'batching.gpu_batch_sise': unknown key; did you mean 'gpu_batch_size'?"},
    {"model: a\nmodel: b\n", "run.yaml:2:1: key 'model': given twice; the first is in line 1"},
    {"stages:\n  - threads: 1\n    device: cpu\n    threads: 1\n",
     "run.yaml:4:5: key 'stages[0].threads': given twice; the first is in line 2"},
    {"zzz: {a: 1, a: 2}\n",
     "run.yaml:1:1: key 'zzz': unknown key\n"
     "run.yaml:1:13: key 'zzz.a': given twice; the first is in line 1"},
    // Types.
    {"model: 13\n",
     "run.yaml:1:8: key 'model': must be text, not '13'; if you mean the text, put it in quotes"},
    {"model: yes\n",
     "run.yaml:1:8: key 'model': must be text, not 'yes'; if you mean the text, put it in quotes"},
    {"model:\n", "run.yaml:1:1: key 'model': must be text, not nothing"},
    {"model: [a]\n", "run.yaml:1:8: key 'model': must be text, not a list"},
    {"io: fast\n", "run.yaml:1:5: key 'io': must be a map of keys, not 'fast'"},
    {"stages: {layers: 1}\n", "run.yaml:1:9: key 'stages': must be a list, [a, b], not a map"},
    {"stages: [3]\n", "run.yaml:1:10: key 'stages[0]': must be a map of keys, not '3'"},
    {"job: {resume: yes}\n", "run.yaml:1:15: key 'job.resume': must be true or false, not 'yes'"},
    {"job: {resume: \"true\"}\n",
     "run.yaml:1:15: key 'job.resume': must be true or false, not text, \"true\""},
    {"weights: dumy\n",
     "run.yaml:1:10: key 'weights': must be one of checkpoint, dummy, not 'dumy'; did you mean "
     "'dummy'?"},
    // Numbers.
    {"batching: {gpu_batch_size: 010}\n",
     "run.yaml:1:28: key 'batching.gpu_batch_size': must be a whole number, not '010'"},
    {"batching: {gpu_batch_size: 0x10}\n",
     "run.yaml:1:28: key 'batching.gpu_batch_size': must be a whole number, not '0x10'"},
    {"batching: {gpu_batch_size: 1e3}\n",
     "run.yaml:1:28: key 'batching.gpu_batch_size': must be a whole number, not '1e3'"},
    {"batching: {gpu_batch_size: 2.0}\n",
     "run.yaml:1:28: key 'batching.gpu_batch_size': must be a whole number, not '2.0'"},
    {"batching: {gpu_batch_size: \"4\"}\n",
     "run.yaml:1:28: key 'batching.gpu_batch_size': must be a whole number, not text, \"4\""},
    {"batching: {gpu_batch_size: -1}\n",
     "run.yaml:1:28: key 'batching.gpu_batch_size': must be a whole number from 1 to 65536, not "
     "'-1'"},
    {"batching: {gpu_batch_size: 99999999999999999999}\n",
     "run.yaml:1:28: key 'batching.gpu_batch_size': must be a whole number from 1 to 65536, not "
     "'99999999999999999999'"},
    {"generation: {temperature: .nan}\n",
     "run.yaml:1:27: key 'generation.temperature': must be a number, not '.nan'"},
    {"generation: {temperature: nan}\n",
     "run.yaml:1:27: key 'generation.temperature': must be a number, not 'nan'"},
    {"generation: {temperature: inf}\n",
     "run.yaml:1:27: key 'generation.temperature': must be a number, not 'inf'"},
    {"generation: {temperature: 1e999}\n",
     "run.yaml:1:27: key 'generation.temperature': must be a number, not '1e999'"},
    {"generation: {temperature: -0.1}\n",
     "run.yaml:1:27: key 'generation.temperature': must be at least 0 and at most 100, not '-0.1'"},
    {"generation: {top_p: 0}\n",
     "run.yaml:1:21: key 'generation.top_p': must be more than 0 and at most 1, not '0'"},
    {"generation: {logprobs: 21}\n",
     "run.yaml:1:24: key 'generation.logprobs': must be a whole number from -1 to 20, not '21'"},
    {"stage_defaults: {budget: {device: 16G}}\n",
     "run.yaml:1:35: key 'stage_defaults.budget.device': '16G' is not a size: its unit must be B, "
     "KiB, MiB, GiB, TiB, PiB (1024) or kB, MB, GB, TB, PB (1000)"},
    // Lists and shares.
    {"generation: {stop: END}\n",
     "run.yaml:1:20: key 'generation.stop': must be a list, [a, b], not 'END'"},
    {"generation: {stop: [a, \"\"]}\n",
     "run.yaml:1:24: key 'generation.stop[1]': must not be empty"},
    {"generation: {stop_token_ids: [2, x]}\n",
     "run.yaml:1:34: key 'generation.stop_token_ids[1]': must be a whole number, not 'x'"},
    {"stage_defaults: {policy: {weights: [50, 20, 20]}}\n",
     "run.yaml:1:36: key 'stage_defaults.policy.weights': the shares of device, host and disk (50, "
     "20, 20) must add up to 100, not 90"},
    {"stage_defaults: {policy: {weights: [50, 50]}}\n",
     "run.yaml:1:36: key 'stage_defaults.policy.weights': must be three shares in percent, "
     "[device, host, disk], not a list of 2"},
    {"stage_defaults: {policy: {weights: [150, 0, -50]}}\n",
     "run.yaml:1:37: key 'stage_defaults.policy.weights[0]': must be at least 0 and at most 100, "
     "not '150'\n"
     "run.yaml:1:45: key 'stage_defaults.policy.weights[2]': must be at least 0 and at most 100, "
     "not '-50'"},
    {"stage_defaults: {policy: {cache: {device: 100, hots: 0}}}\n",
     "run.yaml:1:48: key 'stage_defaults.policy.cache.hots': unknown key; did you mean 'host'?"},
    // Layers.
    {"stages: [{layers: 0-3}, {layers: 5-7}]\n",
     "run.yaml:1:25: key 'stages[1]': begins with layer 5, but must begin with layer 4, where the "
     "stage before it ends"},
    {"stages: [{layers: 4}, {threads: 1}]\n",
     "run.yaml:1:23: key 'stages[1]': either every stage says its layers, or none does"},
    {"stages: [{layers: 3-1}]\n",
     "run.yaml:1:19: key 'stages[0].layers': must be a range of layers, first-last as in 0-11, not "
     "'3-1'"},
    {"stages: [{layers: 0}]\n",
     "run.yaml:1:19: key 'stages[0].layers': must be a whole number from 1 to 100000, not '0'"},
    {"stage_defaults: {layers: 3}\n", "run.yaml:1:18: key 'stage_defaults.layers': unknown key"},
    // YAML that is refused as such.
    {"io: &x {directory: /a}\n",
     "run.yaml:1:5: anchors are not supported; write the value where it is used"},
    {"<<: {model: x}\n",
     "run.yaml:1:1: key '<<': merge keys are not supported; write the keys out"},
    {"model: !!str x\n", "run.yaml:1:8: tags are not supported (found 'tag:yaml.org,2002:str')"},
    {"model: a\n---\nmodel: b\n", "run.yaml: has more than one document; keep the first"},
    {"[a, b]\n", "run.yaml:1:1: must be a map of keys, 'model: ...'"},
    {"model\n", "run.yaml:1:1: must be a map of keys, 'model: ...'"},
    {"model: [\"\\e[31m\"]\n", "run.yaml:1:8: key 'model': must be text, not a list"},
    {"weights: \"\\e[31m\"\n",
     "run.yaml:1:10: key 'weights': must be one of checkpoint, dummy, not text, \"?[31m\""},
    {"model: \"b\\\x11\"\n", "run.yaml:1:12: unknown escape character: ?"},
    {"\"a\\nb\": c\n", "run.yaml:1:1: a key must be a word"},
    {"io: {direct: {}, \"\\e[31m\": 1}\n", "run.yaml:1:18: a key must be a word"},
    {"? [a, b]\n: c\n", "run.yaml:1:3: a key must be a word, not a list or a map"},
};

INSTANTIATE_TEST_SUITE_P(All, ConfigYamlWrong, testing::ValuesIn(kWrong));

TEST(ConfigYaml, SaysAllProblemsAtOnceInTheirOrder) {
  EXPECT_EQ(
      problem_of("weights: dumy\nbatching:\n  micro_batches: -1\n  foo: 1\nmodel: 3\n"),
      "run.yaml:1:10: key 'weights': must be one of checkpoint, dummy, not 'dumy'; did you mean "
      "'dummy'?\n"
      "run.yaml:3:18: key 'batching.micro_batches': must be a whole number from 0 to 4096, not "
      "'-1'\n"
      "run.yaml:4:3: key 'batching.foo': unknown key\n"
      "run.yaml:5:8: key 'model': must be text, not '3'; if you mean the text, put it in "
      "quotes");
}

TEST(ConfigYaml, LayersOfAllStagesCanBeCounted) {
  std::string yaml = "stages:\n";
  for (int i = 0; i < 21475; ++i) yaml += "- {layers: 100000}\n";
  EXPECT_EQ(problem_of(yaml),
            "run.yaml:21476:3: key 'stages[21474]': the stages have more layers than any model");
}

TEST(ConfigYaml, SyntaxErrorsHaveAPlace) {
  for (const char* yaml : {"io: [1, 2\n", "io: {a: 1\n", "model: \"x\n", "a: b: c\n",
                           "\tmodel: x\n", "model: *x\n", "- a\nb: c\n", "%BAD\n---\n...x"}) {
    const std::string problem = problem_of(yaml);
    EXPECT_TRUE(problem.starts_with("run.yaml:")) << yaml << " -> " << problem;
  }
}

TEST(ConfigYaml, DepthAndSizeAreBounded) {
  const auto nested = [](std::size_t depth) {
    return "x: " + std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(problem_of(nested(63)), "run.yaml:1:1: key 'x': unknown key");
  EXPECT_EQ(problem_of(nested(64)), "run.yaml:1:67: nested more than 64 deep");
  EXPECT_EQ(problem_of(nested(100000)), "run.yaml:1:67: nested more than 64 deep");
  EXPECT_EQ(problem_of(std::string((1 << 20) + 1, '#')),
            "run.yaml: larger than 1048576 bytes: this is no configuration");
  EXPECT_EQ(problem_of(std::string("mod\0el", 6)),
            "run.yaml: has a zero byte at offset 3: this is no YAML");
}

/// Whatever the bytes are, the answer is a configuration or a ConfigError.
TEST(ConfigYaml, SurvivesDamage) {
  const std::string whole = to_yaml(read("stages: [{layers: 2}, {layers: 3}]\nmodel: m"));
  std::uint64_t state = 1;
  const auto random = [&] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return state >> 33U;
  };
  int refused = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string damaged = whole;
    for (int change = 0; change < 3; ++change) {
      damaged[random() % damaged.size()] = "{}[]:,-#&*!|>'\"%@`\n\t ?x0\xff\x00"[random() % 26];
    }
    if (i % 4 == 0) damaged.resize(random() % damaged.size());
    if (problem_of(damaged) != "(none)") ++refused;
  }
  EXPECT_GT(refused, 200);
}

TEST(ConfigYaml, FilesThatCannotBeReadAreNamed) {
  RunConfig config;
  const auto problem = [&](const std::string& path) {
    try {
      read_config_file(path, config);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("(none)");
  };
  EXPECT_EQ(problem("/nowhere/run.yaml"),
            "/nowhere/run.yaml: cannot be read: No such file or directory; --config needs a YAML "
            "file");
  EXPECT_EQ(problem("/"), "/: is a folder; --config needs a YAML file");
  const auto path = std::filesystem::path(testing::TempDir()) / "sluice_config_yaml_test.yaml";
  std::ofstream(path) << "model: here\n";
  EXPECT_EQ(problem(path), "(none)");
  EXPECT_EQ(config.model, "here");
  std::filesystem::remove(path);
}

TEST(ConfigDigest, SeesWhatMustBeAlikeAndNothingElse) {
  const RunConfig plain;
  const std::string digest = config_digest(plain);
  EXPECT_EQ(digest.size(), 16U);
  RunConfig local = plain;
  local.model = "/other/path";
  local.io_directory = "/scratch";
  local.report.file = "r.json";
  EXPECT_EQ(config_digest(local), digest);
  RunConfig different = plain;
  different.batching.gpu_batch_size = 9;
  EXPECT_NE(config_digest(different), digest);
  different = plain;
  different.stages.resize(1);
  EXPECT_NE(config_digest(different), digest);
  different = plain;
  different.stage_defaults.policy.cache_dtype = DType::bf16;
  EXPECT_NE(config_digest(different), digest);
}

}  // namespace
}  // namespace sluice::launcher
