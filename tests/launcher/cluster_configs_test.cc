// Every file in cluster-configs/ is loaded, and every script checked, so that no sample goes stale.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "launcher/config/cli.h"
#include "launcher/config/config_yaml.h"
#include "launcher/config/run_config.h"
#include "launcher/planner/machine_file.h"
#include "stage/stage_config.h"

namespace sluice::launcher {
namespace {

const std::filesystem::path kFolder = SLUICE_SOURCE_DIR "/cluster-configs";

std::vector<std::filesystem::path> files_ending(const std::string& extension) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    if (entry.path().extension() == extension) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Every word of `text` that is a flag: "--model", without "=value" and other names.
std::vector<std::string> flags_in(const std::string& text) {
  std::vector<std::string> flags;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (word.starts_with("--")) flags.push_back(word.substr(0, word.find_first_of("=,")));
  }
  return flags;
}

std::string help_of_generate() {
  const char* const words[] = {"sluice", "generate", "--help"};
  return parse_command_line(3, words).text;
}

TEST(ClusterConfigs, EveryFileMakesARun) {
  const auto files = files_ending(".yaml");
  EXPECT_GE(files.size(), 4U);
  for (const auto& path : files) {
    SCOPED_TRACE(path.filename().string());
    RunConfig config;
    ASSERT_NO_THROW(read_config_file(path, config));
    config.model = "m";
    EXPECT_THAT(contradictions(config, false), testing::IsEmpty());
    EXPECT_EQ(config.stage_defaults.policy.problems(), "");
    EXPECT_GT(config.stage_defaults.budgets.bytes[0], 0U);
    for (const stage::StageConfig& stage : config.stages) {
      EXPECT_EQ(stage.policy.problems(), "");
      EXPECT_GT(stage.layers, 0);
    }
    RunConfig again;
    read_config_text(to_yaml(config), "printed", again);
    EXPECT_EQ(to_yaml(again), to_yaml(config));
  }
}

TEST(ClusterConfigs, EveryMachineOnPaperCanBeReadAndSaysWhereItsFiguresComeFrom) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder / "machines")) {
    SCOPED_TRACE(entry.path().filename().string());
    ++count;
    Machine machine;
    ASSERT_NO_THROW(machine = read_machine_file(entry.path()));
    EXPECT_TRUE(machine.on_paper);
    EXPECT_NE(machine.name, "");
    for (const auto& [dtype, curve] : machine.device.products) {
      double before = 0;
      for (const RateCurve::Point& point : curve.points) {
        EXPECT_GT(point.rate.how.size(), 5U);
        EXPECT_GE(point.rate.value, before) << "more rows are never slower, on paper";
        before = point.rate.value;
      }
    }
    // What no hardware can: weights read faster than its memory is.
    EXPECT_LE(machine.device.products.at(DType::f16).points.front().rate.value,
              machine.device.memory_read.value * 1.01);
    EXPECT_LE(machine.host.decode_attention.at(DType::f16).value, machine.host.memory_read.value);
    EXPECT_LE(machine.host_to_device.computing.value, machine.host_to_device.alone.value);
    EXPECT_EQ(machine.within_host.latency.known(), machine.devices > 1);
    EXPECT_EQ(machine.between_hosts.latency.known(), machine.hosts > 1);
    EXPECT_EQ(to_yaml(read_machine_text(to_yaml(machine), "again")), to_yaml(machine));
  }
  EXPECT_GE(count, 12);
}

TEST(ClusterConfigs, TheCommandsInTheirCommentsUseFlagsThatExist) {
  const std::vector<std::string> known = flags_in(help_of_generate());
  for (const auto& path : files_ending(".yaml")) {
    SCOPED_TRACE(path.filename().string());
    const std::string text = content(path);
    EXPECT_THAT(text, testing::HasSubstr("cluster-configs/"));
    const std::size_t command = text.find("sluice generate");
    if (command == std::string::npos) continue;
    EXPECT_THAT(text, testing::HasSubstr("--config cluster-configs/" + path.filename().string()));
    for (const std::string& flag : flags_in(text.substr(command))) {
      EXPECT_THAT(known, testing::Contains(flag));
    }
  }
}

TEST(ClusterConfigs, ScriptsStartRanksThatFindEachOtherAndDieTogether) {
  const std::string job = content(kFolder / "slurm-job.sh");
  EXPECT_THAT(job, testing::HasSubstr("srun --mpi=pmix -K1"));
  const std::size_t command = job.find("generate --model");
  ASSERT_NE(command, std::string::npos);
  const std::vector<std::string> known = flags_in(help_of_generate());
  for (const std::string& flag : flags_in(job.substr(command, job.find(')', command) - command))) {
    EXPECT_THAT(known, testing::Contains(flag));
  }
  EXPECT_GE(files_ending(".sh").size(), 3U);
  for (const auto& path : files_ending(".sh")) {
    SCOPED_TRACE(path.filename().string());
    EXPECT_EQ(std::system(("bash -n '" + path.string() + "'").c_str()), 0);
  }
}

TEST(ClusterConfigs, ScriptsNameAConfigurationWithAsManyStagesAsTheyStartTasks) {
  int count = 0;
  for (const auto& path : files_ending(".sh")) {
    SCOPED_TRACE(path.filename().string());
    const std::string text = content(path);
    if (text.find("\n#SBATCH ") == std::string::npos) continue;
    ++count;
    const std::string option = "--config cluster-configs/";
    const std::size_t config = text.find(option);
    ASSERT_NE(config, std::string::npos);
    const std::size_t begin = config + option.size();
    const std::string named = text.substr(begin, text.find_first_of(" \n", begin) - begin);
    EXPECT_TRUE(std::filesystem::exists(kFolder / named)) << named;
    RunConfig loaded;
    read_config_file(kFolder / named, loaded);
    EXPECT_THAT(text, testing::HasSubstr(
                          "#SBATCH --ntasks=" + std::to_string(loaded.stages.size()) + "\n"));
  }
  EXPECT_EQ(count, 2);
}

TEST(ClusterConfigs, TheReadmeNamesEveryFile) {
  const std::string readme = content(kFolder / "README.md");
  for (const char* extension : {".yaml", ".sh"}) {
    for (const auto& path : files_ending(extension)) {
      EXPECT_THAT(readme, testing::HasSubstr("| `" + path.filename().string() + "` |"));
    }
  }
}

}  // namespace
}  // namespace sluice::launcher
