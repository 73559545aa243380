// A family that nobody publishes, on one page: other config keys and tensor names, grouped heads
// whose width is not hidden / heads, fused query-key-value rows, norms after the blocks, a head of
// its own. Nothing outside this page knows it, and its tokens are those of a plain forward in
// double precision, for every placement and number of stages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "launcher/model/model_folder.h"
#include "tests/support/file_bytes.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/scratch_folder.h"

namespace sluice {
namespace {

using launcher::ConfigReader;
using launcher::Family;
using launcher::TensorNames;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;
using testing::AllOf;
using testing::HasSubstr;

// --- the page ------------------------------------------------------------------------------------

stage::DecoderConfig read_config(const ConfigReader& config) {
  stage::DecoderConfig model;
  model.layers = config.size("depth", 1);
  model.hidden = model.embedding.width = config.size("dim", 64);
  model.vocabulary = config.size("words", 100);
  model.max_positions = config.size("context", 64);
  model.positions.offset = 3;
  model.norm = {stage::NormPlace::after, 1e-3F, true};
  model.attention.query_heads = config.size("heads", 8);
  model.attention.kv_heads = config.size("groups", 1);
  model.attention.head_width = config.size("head", 8);
  model.attention.output_bias = false;
  model.attention.scale = 0.3F;
  model.mlp = {config.size("inner", 64), kernels::Activation::gelu, false};
  model.head = {true, false};
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  // Rows of each group: its query heads, its key head, its value head.
  const std::int64_t width = model.attention.head_width;
  const std::int64_t queries = model.attention.query_width() / model.attention.kv_heads;
  const std::int64_t group = queries + 2 * width;
  return TensorNames({"toy."})
      .add("embedding.tokens", "words")
      .add("embedding.positions", "places")
      .add("layers.*.attention.norm", "block_*.mixed")
      .add("layers.*.attention.query", "block_*.mixer.fused", {0, queries, group})
      .add("layers.*.attention.key", "block_*.mixer.fused", {queries, width, group})
      .add("layers.*.attention.value", "block_*.mixer.fused", {queries + width, width, group})
      .add("layers.*.attention.output", "block_*.mixer.back")
      .add("layers.*.mlp.norm", "block_*.thought")
      .add("layers.*.mlp.up", "block_*.think")
      .add("layers.*.mlp.down", "block_*.say")
      .add("head.norm", "last")
      .add("head.tokens", "speak");
}

const Family kToy{"toy", "Toy", &read_config, &name_tensors};

// --- a checkpoint of it, and its forward ---------------------------------------------------------

constexpr std::size_t kDepth = 3, kDim = 40, kWords = 96, kContext = 48, kOffset = 3;
constexpr std::size_t kHeads = 6, kGroups = 2, kHead = 16, kInner = 72;
constexpr std::size_t kPerGroup = kHeads / kGroups;
constexpr std::size_t kFused = (kHeads + 2 * kGroups) * kHead;
constexpr double kScale = 0.3F;
constexpr double kEpsilon = 1e-3F;

using Vector = std::vector<double>;

class Toy {
 public:
  Toy() {
    add("words.weight", {kWords, kDim}, 1.0F);
    add("places.weight", {kContext + kOffset, kDim}, 1.0F);
    for (std::size_t layer = 0; layer < kDepth; ++layer) {
      const std::string block = "block_" + std::to_string(layer) + ".";
      add(block + "mixer.fused.weight", {kFused, kDim}, 0.15F);
      add(block + "mixer.fused.bias", {kFused}, 0.5F);
      add(block + "mixer.back.weight", {kDim, kHeads * kHead}, 0.1F);
      add(block + "think.weight", {kInner, kDim}, 0.2F);
      add(block + "say.weight", {kDim, kInner}, 0.2F);
      for (const char* norm : {"mixed", "thought"}) add_norm(block + norm);
    }
    add_norm("last");
    add("speak.weight", {kWords, kDim}, 0.5F);
    add("words.version", {1}, 0);  // nothing of the model
  }

  void write(const std::filesystem::path& folder) const {
    std::string header = "{";
    std::string data;
    for (const auto& [name, tensor] : tensors_) {
      std::string shape;
      for (const std::size_t extent : tensor.shape) {
        shape += (shape.empty() ? "" : ",") + std::to_string(extent);
      }
      header += (header == "{" ? "\"toy." : ",\"toy.") + name + R"(":{"dtype":"F32","shape":[)" +
                shape + R"(],"data_offsets":[)" + std::to_string(data.size()) + ",";
      data.append(reinterpret_cast<const char*>(tensor.values.data()),
                  tensor.values.size() * sizeof(float));
      header += std::to_string(data.size()) + "]}";
    }
    header += "}";
    support::write_file(folder / "model.safetensors",
                        support::little(header.size(), 8) + header + data);
    support::write_file(folder / "config.json",
                        R"({"model_type":"toy","depth":3,"dim":40,"words":96,"context":48,)"
                        R"("heads":6,"groups":2,"head":16,"inner":72,"eos_token_id":0})");
  }

  /// Of the token that follows `ids`.
  Vector logits(const std::vector<std::int32_t>& ids) const {
    std::vector<Vector> x;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      x.push_back(row("words.weight", static_cast<std::size_t>(ids[i])));
      const Vector place = row("places.weight", i + kOffset);
      for (std::size_t c = 0; c < kDim; ++c) x[i][c] += place[c];
    }
    for (std::size_t layer = 0; layer < kDepth; ++layer) {
      const std::string block = "block_" + std::to_string(layer) + ".";
      std::vector<Vector> fused;
      for (const Vector& each : x) {
        fused.push_back(times(block + "mixer.fused.weight", each));
        add_to(fused.back(), row(block + "mixer.fused.bias", 0));
      }
      for (std::size_t i = 0; i < x.size(); ++i) {
        add_to(x[i], times(block + "mixer.back.weight", attended(fused, i)));
        x[i] = normed(block + "mixed", x[i]);
        Vector inner = times(block + "think.weight", x[i]);
        for (double& value : inner) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
        add_to(x[i], times(block + "say.weight", inner));
        x[i] = normed(block + "thought", x[i]);
      }
    }
    return times("speak.weight", normed("last", x.back()));
  }

 private:
  struct Tensor {
    std::vector<std::size_t> shape;
    std::vector<float> values;
  };

  void add(const std::string& name, const std::vector<std::size_t>& shape, float deviation,
           float mean = 0) {
    Tensor& tensor = tensors_[name];
    tensor.shape = shape;
    std::size_t count = 1;
    for (const std::size_t extent : shape) count *= extent;
    // Sums of twelve evenly spread numbers: alike with every standard library.
    for (std::size_t i = 0; i < count; ++i) {
      float sum = -6;
      for (int k = 0; k < 12; ++k) sum += static_cast<float>(random_() >> 8U) / 16777216.0F;
      tensor.values.push_back(mean + deviation * sum);
    }
  }
  void add_norm(const std::string& name) {
    add(name + ".weight", {kDim}, 0.2F, 1.0F);
    add(name + ".bias", {kDim}, 0.2F);
  }

  Vector row(const std::string& name, std::size_t index) const {
    const Tensor& tensor = tensors_.at(name);
    const auto begin =
        tensor.values.begin() + static_cast<std::ptrdiff_t>(index * tensor.shape.back());
    return Vector(begin, begin + static_cast<std::ptrdiff_t>(tensor.shape.back()));
  }
  Vector times(const std::string& name, const Vector& in) const {
    Vector out;
    for (std::size_t r = 0; r < tensors_.at(name).shape[0]; ++r) {
      const Vector weights = row(name, r);
      double sum = 0;
      for (std::size_t c = 0; c < in.size(); ++c) sum += weights[c] * in[c];
      out.push_back(sum);
    }
    return out;
  }
  static void add_to(Vector& sum, const Vector& more) {
    for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += more[c];
  }
  Vector normed(const std::string& name, const Vector& in) const {
    double mean = 0;
    double variance = 0;
    for (const double value : in) mean += value / kDim;
    for (const double value : in) variance += (value - mean) * (value - mean) / kDim;
    const Vector weight = row(name + ".weight", 0);
    Vector out = row(name + ".bias", 0);
    for (std::size_t c = 0; c < kDim; ++c) {
      out[c] += (in[c] - mean) / std::sqrt(variance + kEpsilon) * weight[c];
    }
    return out;
  }
  static Vector attended(const std::vector<Vector>& fused, std::size_t i) {
    Vector out;
    for (std::size_t head = 0; head < kHeads; ++head) {
      const std::size_t group = head / kPerGroup * (kPerGroup + 2) * kHead;
      const std::size_t query = group + head % kPerGroup * kHead;
      const std::size_t key = group + kPerGroup * kHead;
      Vector weights;
      double total = 0;
      for (std::size_t j = 0; j <= i; ++j) {
        double score = 0;
        for (std::size_t c = 0; c < kHead; ++c) score += fused[i][query + c] * fused[j][key + c];
        weights.push_back(std::exp(score * kScale));
        total += weights.back();
      }
      for (std::size_t c = 0; c < kHead; ++c) {
        double sum = 0;
        for (std::size_t j = 0; j <= i; ++j) sum += weights[j] * fused[j][key + kHead + c];
        out.push_back(sum / total);
      }
    }
    return out;
  }

  std::mt19937 random_{7};
  std::map<std::string, Tensor> tensors_;
};

// --- what must hold ------------------------------------------------------------------------------

constexpr std::int32_t kNewTokens = 8;

std::vector<std::vector<std::int32_t>> prompts() {
  std::vector<std::vector<std::int32_t>> list;
  for (const std::int32_t length : {1, 17, 5, 9, 30, 2, 12}) {
    auto& prompt = list.emplace_back();
    const auto first = static_cast<std::int32_t>(list.size());
    for (std::int32_t k = 0; k < length; ++k) {
      prompt.push_back((first * 31 + k * (7 + first)) % static_cast<std::int32_t>(kWords));
    }
  }
  return list;
}

std::vector<stage::Request> requests() {
  std::vector<stage::Request> list;
  for (const auto& prompt : prompts()) {
    stage::Request& request = list.emplace_back();
    request.prompt = prompt;
    request.max_tokens = kNewTokens;
  }
  return list;
}

class ToyFamilyTest : public testing::Test {
 protected:
  ToyFamilyTest() { toy_.write(folder_.path()); }

  launcher::ModelFolder model() { return launcher::open_model(folder_.path().string(), {&kToy}); }
  std::vector<std::vector<std::int32_t>> run(const PipelineOptions& options) {
    ListJob job(requests());
    support::run_pipeline(model(), options, job);
    std::vector<std::vector<std::int32_t>> tokens;
    for (auto& [id, answer] : job.answers) {
      EXPECT_EQ(answer.failure, "");
      tokens.push_back(answer.tokens);
    }
    return tokens;
  }
  /// Every placement on one to three stages, with GPU batches of different sizes.
  static std::vector<PipelineOptions> all_options() {
    std::vector<offload::Policy> placements = {
        policy_of(100, 0, 100, 0, 100, 0), policy_of(0, 100, 0, 100, 0, 100),
        policy_of(0, 0, 0, 0, 0, 0), policy_of(30, 40, 50, 20, 50, 50),
        policy_of(30, 40, 30, 50, 50, 50)};
    placements.back().cpu_cache_compute = true;
    std::vector<PipelineOptions> list;
    for (const offload::Policy& policy : placements) {
      for (const std::int32_t stages : {1, 2, 3}) {
        PipelineOptions& options = list.emplace_back();
        options.policy = policy;
        options.stages = stages;
        options.batching.gpu_batch_size = 1 + stages;
        options.batching.num_gpu_batches = stages % 2 + 1;
        options.batching.max_tokens_per_gpu_batch = 16;
      }
    }
    return list;
  }

  support::ScratchFolder folder_;
  Toy toy_;
};

TEST_F(ToyFamilyTest, TokensAreThoseOfAPlainForward) {
  std::vector<std::vector<std::int32_t>> expected;
  for (std::vector<std::int32_t> ids : prompts()) {
    expected.emplace_back();
    for (std::int32_t k = 0; k < kNewTokens; ++k) {
      const Vector logits = toy_.logits(ids);
      const auto best = std::ranges::max_element(logits);
      Vector sorted = logits;
      std::ranges::sort(sorted, std::ranges::greater());
      ASSERT_GT(sorted[0] - sorted[1], 1e-3) << "rounding would decide this token";
      ids.push_back(static_cast<std::int32_t>(best - logits.begin()));
      expected.back().push_back(ids.back());
    }
  }
  for (const PipelineOptions& options : all_options()) {
    EXPECT_EQ(run(options), expected) << options.stages << " stages";
  }
}

// Packed rows of fused tensors, found again by the next run.
TEST_F(ToyFamilyTest, QuantisedTokensAreAlikeInEveryPlacement) {
  const support::ScratchFolder packed;
  std::vector<std::vector<std::int32_t>> first;
  for (PipelineOptions options : all_options()) {
    options.policy.compress_weight = offload::Compression::eight_bit;
    options.packed_directory = packed.path();
    const auto tokens = run(options);
    if (first.empty()) first = tokens;
    EXPECT_EQ(tokens, first) << options.stages << " stages";
  }
}

TEST_F(ToyFamilyTest, WhereItIsNotKnownItIsRefusedWithTheListOfWhatRuns) {
  EXPECT_THAT(
      support::refusal([&] { launcher::open_model(folder_.path().string()); }),
      AllOf(HasSubstr("config.json"), HasSubstr("model_type is \"toy\", but only \"opt\" (OPT)")));
}

}  // namespace
}  // namespace sluice
