#include "launcher/report/memory_table.h"

#include <gtest/gtest.h>

namespace sluice::launcher {
namespace {

TEST(MemoryTable, ShowsEveryPurposeItsSumAndBudget) {
  stage::StageReport first;
  first.host = "node1";
  first.device = "cpu (avx2, 2 threads)";
  first.layers = 12;
  first.plan = {
      {offload::Tier::host, "weights", 2ULL << 30U},
      {offload::Tier::device, "weights", 1ULL << 30U},
      {offload::Tier::device, "KV cache", 512ULL << 20U},
      {offload::Tier::device, "weights", 1ULL << 30U},  // a second reservation of its kind
      {offload::Tier::device, "KV staging", 0}};
  first.tiers[0].budget = 5ULL << 30U;
  stage::StageReport second;
  second.rank = 1;
  second.host = "node2";
  second.device = "cuda:0";
  second.first_layer = 12;
  second.layers = 1;
  EXPECT_EQ(memory_table({first, second}), R"(stage 0 on node1: layers 0-11, cpu (avx2, 2 threads)
  tier    purpose      bytes  budget
  device  weights   2.00 GiB
          KV cache   512 MiB
          total     2.50 GiB  50 % of 5.00 GiB
  host    weights   2.00 GiB
          total     2.00 GiB  no limit set
stage 1 on node2: layer 12, cuda:0
  nothing planned
)");
}

TEST(MemoryTable, SaysWhatTheCacheIsMadeOf) {
  stage::StageReport stage;
  stage.cache_dtype = "f16";
  stage.plan = {{offload::Tier::device, "KV cache", 512ULL << 20U}};
  EXPECT_NE(memory_table({stage}).find("  device  KV cache (f16)  512 MiB"), std::string::npos);
}

TEST(MemoryTable, NamesLayers) {
  stage::StageReport stage;
  EXPECT_EQ(layers_text(stage), "no layers");
  stage.first_layer = 3;
  stage.layers = 1;
  EXPECT_EQ(layers_text(stage), "layer 3");
  stage.layers = 2;
  EXPECT_EQ(layers_text(stage), "layers 3-4");
}

}  // namespace
}  // namespace sluice::launcher
