#include "comm/nccl_plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace sluice::comm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string fake(const std::string& name) { return SLUICE_FAKE_NCCL "/" + name + ".so"; }

std::string refusal(const std::string& path) {
  const std::string unavailable = "NCCL unavailable: ";
  try {
    load_nccl_plugin(path);
  } catch (const NcclUnavailable& error) {
    const std::string sentence = error.what();
    EXPECT_EQ(error.status(), ExitStatus::usage);
    EXPECT_THAT(sentence, StartsWith(unavailable));
    return sentence.substr(unavailable.size());
  }
  return "it was taken";
}

TEST(NcclPlugin, OfAnotherAbiIsLeftAlone) {
  EXPECT_EQ(refusal(fake("nccl_other_abi")), fake("nccl_other_abi") + " is of NCCL ABI " +
                                                 std::to_string(kNcclAbi + 1) +
                                                 ", this program of " + std::to_string(kNcclAbi) +
                                                 ", so they are of different builds");
}

TEST(NcclPlugin, WithoutAFunctionIsNone) {
  EXPECT_THAT(refusal(fake("nccl_half")), HasSubstr("has no function sluice_nccl_connect"));
  EXPECT_THAT(refusal("libm.so.6"), HasSubstr("libm.so.6 has no function sluice_nccl_abi"));
}

TEST(NcclPlugin, NamesTheFileThatIsMissing) {
  EXPECT_THAT(refusal("/nowhere/libsluice_nccl.so"),
              StartsWith("/nowhere/libsluice_nccl.so: cannot open shared object file"));
  EXPECT_THAT(refusal(fake("nccl_needs_absent")),
              StartsWith(fake("nccl_needs_absent") + ": libnccl_absent.so: "));
}

// Beside this test's own program, where the build puts it.
TEST(NcclPlugin, OfThisBuildIsFoundOrMissedByName) {
#ifdef SLUICE_HAS_NCCL
  // In a process of its own: NCCL starts threads, which would take other tests' signals.
  const auto make_id = [] {
    setenv("NCCL_SOCKET_IFNAME", "lo", 0);
    std::string id;
    load_nccl().make_id(&id);  // needs no GPU
    const bool is_hex = id.find_first_not_of("0123456789abcdef") == std::string::npos;
    std::_Exit(id.size() == 256 && is_hex ? 0 : 1);
  };
  EXPECT_EXIT(make_id(), testing::ExitedWithCode(0), "");
#else
  try {
    load_nccl();
    ADD_FAILURE() << "this build has no NCCL";
  } catch (const NcclUnavailable& error) {
    EXPECT_THAT(error.what(), HasSubstr("SLUICE_NCCL=OFF"));
  }
#endif
}

}  // namespace
}  // namespace sluice::comm
