#include "kernels/cuda_plugin.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace sluice::kernels {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

const fs::path kFakes = SLUICE_FAKE_PLUGINS;
const std::string kUnavailable = "CUDA backend unavailable: ";

std::string fake(const std::string& name) { return (kFakes / ("cuda_plugin_" + name + ".so")); }

bool is_loaded(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (library != nullptr) dlclose(library);
  return library != nullptr;
}

/// Why `path` gives no engine, after checking that it is said in the right words.
std::string refusal(const std::string& path, const std::string& device = "cuda") {
  try {
    EngineOptions options;
    options.device = device;
    load_engine_plugin(path, options);
  } catch (const ConfigError& error) {
    const std::string sentence = error.what();
    const std::string advice = "; use device: cpu, or auto";
    EXPECT_EQ(error.status(), ExitStatus::usage);
    EXPECT_THAT(sentence, StartsWith(kUnavailable));
    EXPECT_THAT(sentence, testing::EndsWith(advice));
    EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
    return sentence.substr(kUnavailable.size(),
                           sentence.size() - kUnavailable.size() - advice.size());
  }
  return "an engine was made";
}

class ScratchFolder : public testing::Test {
 protected:
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "sluice-plugin-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp: " + name);
    scratch_ = name;
  }
  ~ScratchFolder() override { fs::remove_all(scratch_); }

  std::string write(const fs::path& name, const std::string& text) const {
    fs::create_directories((scratch_ / name).parent_path());
    std::ofstream(scratch_ / name) << text;
    return scratch_ / name;
  }

  fs::path scratch_;
};

TEST(CudaPlugin, MakesAnEngineThatWorks) {
  Trace trace(0);
  EngineOptions options;
  options.device = "cuda";
  options.threads = 3;
  options.trace = &trace;
  Memory memory;
  {
    const Engine engine = load_engine_plugin(fake("good"), options);
    EXPECT_EQ(engine.backend->info().kind, "plugin");
    EXPECT_THAT(engine.backend->info().description, HasSubstr(", 3 threads)"));
    ASSERT_NE(engine.device_ops, nullptr);
    ASSERT_NE(engine.host_ops, nullptr);
    memory = engine.backend->allocate_device(4096);
    const std::array<float, 2> source = {3.0F, 4.0F};
    engine.backend->copy(Lane::host_to_device, memory.data(), source.data(), sizeof(source));
    engine.backend->synchronize(engine.backend->record(Lane::host_to_device));
    EXPECT_EQ(std::memcmp(memory.data(), source.data(), sizeof(source)), 0);
    EXPECT_EQ(trace.bytes(Activity::host_to_device), sizeof(source));
  }
  // What the engine gave away may still need the library's code.
  EXPECT_TRUE(is_loaded(fake("good")));
}

TEST(CudaPlugin, MakesAsManyEnginesAsAreAskedFor) {
  EngineOptions options;
  options.threads = 1;
  const Engine first = load_engine_plugin(fake("good"), options);
  const Engine second = load_engine_plugin(fake("good"), options);
  EXPECT_NE(first.backend, second.backend);
}

TEST(CudaPlugin, OfAnotherAbiIsLeftAlone) {
  EXPECT_EQ(refusal(fake("other_abi")), fake("other_abi") + " is of engine ABI " +
                                            std::to_string(kEngineAbi + 1) + ", this program of " +
                                            std::to_string(kEngineAbi) +
                                            ", so they are of different builds");
  EXPECT_FALSE(is_loaded(fake("other_abi")));
}

TEST(CudaPlugin, WithoutAFunctionIsNone) {
  EXPECT_THAT(refusal(fake("no_factory")), HasSubstr("has no function sluice_make_engine"));
  EXPECT_FALSE(is_loaded(fake("no_factory")));
  EXPECT_THAT(refusal("libm.so.6"), HasSubstr("libm.so.6 has no function sluice_engine_abi"));
}

TEST(CudaPlugin, GivesItsReason) {
  const std::string path = fake("contrary");
  EXPECT_EQ(refusal(path), "no CUDA device is visible");
  EXPECT_EQ(refusal(path, "cuda:1"), "cudaGetDeviceCount: cudaErrorUnknown");
  EXPECT_THAT(refusal(path, "cuda:2"), HasSubstr("not an exception"));
  EXPECT_EQ(refusal(path, "cuda:3"), "the plugin gives no reason");
  EXPECT_THAT(refusal(path, "cuda:4"), HasSubstr("half an engine"));
  EXPECT_EQ(refusal(path, "cuda:5"), "the plugin gives no reason");
  EXPECT_EQ(refusal(path, "cuda:6"), std::string(1023, 'x'));
}

TEST(CudaPlugin, NamesTheLibraryThatItMisses) {
  const std::string reason = refusal(fake("needs_absent"));
  EXPECT_THAT(reason, StartsWith(fake("needs_absent") + ": libsluice_absent.so: "));
  EXPECT_THAT(reason, HasSubstr("No such file or directory"));
}

class BadPluginFile : public ScratchFolder {};

TEST_F(BadPluginFile, IsNamed) {
  const std::string missing = scratch_ / "missing.so";
  const std::string reason = refusal(missing);
  EXPECT_THAT(reason, StartsWith(missing + ": "));
  EXPECT_EQ(reason.find(missing, 1), std::string::npos) << "named twice: " << reason;
  EXPECT_THAT(reason, HasSubstr("No such file or directory"));

  const std::string text = write("text.so", "This is not a library.\n");
  EXPECT_THAT(refusal(text), StartsWith(text + ": "));
  const std::string empty = write("empty.so", "");
  EXPECT_THAT(refusal(empty), StartsWith(empty + ": "));
  EXPECT_THAT(refusal(scratch_), StartsWith(scratch_.string() + ": "));

  std::ifstream whole(fake("good"), std::ios::binary);
  std::string head(40, '\0');  // of the 64 bytes of an ELF header
  ASSERT_TRUE(whole.read(head.data(), static_cast<std::streamsize>(head.size())));
  const std::string cut = write("cut.so", head);
  EXPECT_THAT(refusal(cut), StartsWith(cut + ": "));
}

struct Outcome {
  int status = -1;
  std::string out;
  std::string error;
};

/// Runs copies of the program that makes one engine, so that plugins can lie around it.
class CudaProgram : public ScratchFolder {
 protected:
  CudaProgram() {
    fs::create_directory(scratch_ / "bin");
    for (const std::string name : {"cuda_plugin_program", "cuda_unavailable_program"}) {
      fs::copy_file(kFakes / name, scratch_ / "bin" / name);
    }
  }

  void place(const std::string& plugin, const fs::path& folder) const {
    fs::create_directories(scratch_ / folder);
    fs::copy_file(fake(plugin), scratch_ / folder / kPluginFile);
  }

  /// As on a machine with a GPU: device auto looks no further without it.
  void place_driver() const {
    fs::create_directories(scratch_ / "loader");
    fs::copy_file(fake("no_factory"), scratch_ / "loader" / "libcuda.so.1");
  }

  Outcome run(const std::string& device, const std::string& program = "cuda_plugin_program") const {
    const std::string in = "'" + scratch_.string();
    const std::string command = "LD_LIBRARY_PATH=" + in + "/loader' " + in + "/bin/" + program +
                                "' " + device + " >" + in + "/out' 2>" + in + "/error'";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text_of("out"), text_of("error")};
  }

 private:
  std::string text_of(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(scratch_ / name).rdbuf();
    return text.str();
  }
};

void expect_refused(const Outcome& outcome, const std::string& reason) {
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.error, StartsWith("sluice: " + kUnavailable));
  EXPECT_THAT(outcome.error, HasSubstr(reason));
}

void expect_plugin(const Outcome& outcome) {
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, StartsWith("plugin on cpu ("));
  EXPECT_THAT(outcome.error, IsEmpty());
}

TEST_F(CudaProgram, FindsThePluginBesideIt) {
  place_driver();
  place("good", "bin");
  place("contrary", "lib/sluice");
  place("contrary", "loader");
  for (const std::string device : {"cuda", "cuda:0", "cuda:12", "auto"}) {
    expect_plugin(run(device));
  }
}

TEST_F(CudaProgram, FindsThePluginInItsLibraryFolder) {
  place("good", "lib/sluice");
  place("contrary", "loader");
  expect_plugin(run("cuda"));
}

TEST_F(CudaProgram, FindsThePluginWhereTheLoaderLooks) {
  place("good", "loader");
  expect_plugin(run("cuda"));
}

TEST_F(CudaProgram, DoesNotPassOverAPluginThatFails) {
  place("other_abi", "bin");
  place("good", "lib/sluice");
  place("good", "loader");
  expect_refused(run("cuda"), "engine ABI");
}

TEST_F(CudaProgram, RefusesByNameWithoutAPlugin) {
  const Outcome outcome = run("cuda");
  expect_refused(outcome, "libsluice_cuda.so: cannot open shared object file");
  EXPECT_THAT(outcome.error, HasSubstr("beside the program"));
}

TEST_F(CudaProgram, RefusesByNameWhatThePluginRefuses) {
  place("contrary", "bin");
  expect_refused(run("cuda"), "no CUDA device is visible");
  expect_refused(run("cuda:1"), "cudaErrorUnknown");
}

TEST_F(CudaProgram, TakesTheCpuUnderAutoWithoutAWordWhereThereIsNoDriver) {
  if (has_cuda_driver()) GTEST_SKIP() << "this machine has an NVIDIA driver";
  place("contrary", "bin");
  const Outcome outcome = run("auto");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, StartsWith("cpu ("));
  EXPECT_THAT(outcome.error, IsEmpty());
}

TEST_F(CudaProgram, TakesTheCpuUnderAutoAndSaysWhy) {
  place_driver();
  Outcome outcome = run("auto");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, StartsWith("cpu ("));
  EXPECT_THAT(outcome.error, HasSubstr("libsluice_cuda.so"));

  place("contrary", "bin");
  outcome = run("auto");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, StartsWith("cpu ("));
  EXPECT_EQ(outcome.error,
            "sluice: " + kUnavailable + "no CUDA device is visible; device auto takes the CPU\n");
}

TEST_F(CudaProgram, LeavesThePluginAloneOnTheCpu) {
  place("good", "bin");
  EXPECT_THAT(run("cpu").out, StartsWith("cpu ("));
}

TEST_F(CudaProgram, BuiltWithoutThePluginRefusesByName) {
  place("good", "bin");
  expect_refused(run("cuda", "cuda_unavailable_program"), "SLUICE_CUDA=OFF");
  expect_refused(run("cuda:0", "cuda_unavailable_program"), "SLUICE_CUDA=OFF");
}

TEST_F(CudaProgram, BuiltWithoutThePluginHasOnlyTheCpuToTake) {
  const Outcome outcome = run("auto", "cuda_unavailable_program");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, StartsWith("cpu ("));
  EXPECT_THAT(outcome.error, IsEmpty());
}

TEST_F(CudaProgram, RefusesWhatIsNoDevice) {
  place("good", "bin");
  for (const std::string device : {"gpu", "cudax", "cuda:", "cuda:-1", "cuda:1x", "cuda:12345"}) {
    for (const std::string program : {"cuda_plugin_program", "cuda_unavailable_program"}) {
      const Outcome outcome = run(device, program);
      EXPECT_EQ(outcome.status, 2) << device;
      EXPECT_EQ(outcome.error, "sluice: device: '" + device +
                                   "' is not a device; use auto, cpu, cuda or cuda:N\n");
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
