#include "launcher/report/schedule_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

// Not GoogleTest's: it calls regcomp(), which Oniguruma, linked here as well, has under that name.
MATCHER_P(Shows, pattern, "") { return std::regex_search(arg, std::regex(pattern)); }

/// A layer of one stage; half of its weights and all of the cache are in host memory.
std::string table() {
  stage::StageLayout layout;
  layout.model.layers = layout.config.layers = 1;
  layout.model.hidden = layout.model.embedding.width = 8;
  layout.model.attention.query_heads = layout.model.attention.kv_heads = 2;
  layout.model.attention.head_width = 4;
  layout.model.mlp.width = 32;
  layout.model.vocabulary = 100;
  layout.model.max_positions = 64;
  layout.batching.gpu_batch_size = 2;
  layout.batching.max_sequence_tokens = 20;
  layout.config.policy.cache = {0, 100, 0};
  std::vector<offload::GroupPlacement> groups;
  for (const offload::GroupSpec& spec : stage::layer_specs(layout)) {
    offload::GroupPlacement& group = groups.emplace_back();
    group.name = spec.name;
    for (const offload::WeightSpec& tensor : spec.tensors) {
      const std::int64_t rows = tensor.name.empty() ? 0 : tensor.rows;
      group.tensors.push_back({{DType::f16, rows, tensor.columns, 0}, {rows / 2, rows - rows / 2}});
    }
  }
  return schedule_table(layout, groups);
}

TEST(ScheduleTable, ShowsEveryTaskWithItsWorkAndWhatItComesAfter) {
  const std::string text = table();
  EXPECT_THAT(text, HasSubstr("a decode step of 2 sequences of 20 tokens"));
  EXPECT_THAT(text, Shows("# +task +of +batch +resource +bytes +FLOP +after"));
  // Two sequences of 19 tokens are two pages each: 4 * 16 tokens * 2 * 8 * 4 bytes.
  EXPECT_THAT(text, Shows("fetch cache +layer 0 +0 +host to device +4.00 KiB"));
  EXPECT_THAT(text, Shows("load weights +embedding +host to device"));
  // 2 rows through 2 matrices of 8 * 32.
  EXPECT_THAT(text, Shows("mlp +layer 0 +0 +compute +[^ ]+ [^ ]+ +2.05e\\+03"));
  EXPECT_THAT(text, HasSubstr("-1:"));
}

}  // namespace
}  // namespace sluice::launcher
