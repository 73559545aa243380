// How fast each operation of an engine is at the shapes of OPT, beside what the device can do.
//
//   bench_cuda_kernels [--device cuda] [--only rates,linear,...] [--models 125m,6.7b,30b]
//                      [--rounds N] [--milliseconds N] [--tiny 0|1]
//
// Only public interfaces: operations through Ops, copies and order through Backend, so that
// `--device cpu --tiny 1` runs all of it without a GPU. A measurement queues an operation many
// times, rotating through data far beyond any cache, and divides; a figure is the median of
// rounds. Each is a line of JSON: bytes and FLOP are the least that the operation must move and
// compute, counted from shapes. `limit` is what the rates of this very run allow.
#include <fmt/core.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/bench/engine_bench.h"

namespace sluice::bench {
namespace {

using kernels::Activation;

struct Model {
  std::string name;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t ffn() const { return 4 * hidden; }
};

constexpr std::int64_t kVocabulary = 50272;

std::vector<Model> models_of(const Settings& settings) {
  std::vector<Model> chosen;
  for (const Model& model :
       {Model{"125m", 768, 12}, Model{"6.7b", 4096, 32}, Model{"30b", 7168, 56}}) {
    if (!settings.names("--models", model.name)) continue;
    chosen.push_back(settings["--tiny"] != 0 ? Model{model.name, 128, 2} : model);
  }
  return chosen;
}

/// Prompts of 512 tokens, 16 of them; or fewer rows where all is small.
std::int64_t prompt_rows(const Settings& settings) { return settings["--tiny"] != 0 ? 32 : 8192; }

void linear(EngineBench& bench, const Model& model, DType dtype, std::int64_t rows,
            const std::string& layer, std::int64_t n, std::int64_t k) {
  bench.forget();
  const DType kind = bench.activations();
  const Rotating weights = bench.matrices(dtype, n, k);
  const Rotating in = bench.matrices(kind, rows, k);
  const Rotating out = bench.matrices(layer == "head" ? DType::f32 : kind, rows, n);
  const TensorView bias = bench.vector(DType::f16, n);
  Figure figure{
      fmt::format("kernel_gemm_{}_{}_{}_{}rows", model.name, layer, name_of(dtype), rows)};
  figure.bytes = static_cast<double>(weights[0].bytes() + in[0].bytes() + out[0].bytes());
  figure.flop = 2.0 * static_cast<double>(rows) * static_cast<double>(n) * static_cast<double>(k);
  figure.more = fmt::format(R"("m": {}, "n": {}, "k": {}, "dtype": "{}", "activations": "{}")",
                            rows, n, k, name_of(dtype), name_of(kind));
  const auto activation = layer == "fc1" ? Activation::relu : Activation::none;
  bench.measure(figure, [&](std::size_t i) {
    bench.ops().linear(out[i], in[i], {weights[i], {}}, bias, activation, {});
  });
}

void all_linear(EngineBench& bench, const Settings& settings) {
  for (const Model& model : models_of(settings)) {
    const std::int64_t vocabulary = settings["--tiny"] != 0 ? 512 : kVocabulary;
    for (const DType dtype : {DType::f16, DType::q8, DType::q4}) {
      if (dtype != DType::f16 && model.name == "125m") continue;
      for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{32}, prompt_rows(settings)}) {
        linear(bench, model, dtype, rows, "qkvo", model.hidden, model.hidden);
        linear(bench, model, dtype, rows, "fc1", model.ffn(), model.hidden);
        linear(bench, model, dtype, rows, "fc2", model.hidden, model.ffn());
      }
      linear(bench, model, dtype, 32, "head", vocabulary, model.hidden);
    }
  }
}

void layer_norm(EngineBench& bench, const Model& model, std::int64_t rows, double goal) {
  bench.forget();
  const DType kind = bench.activations();
  const Rotating in = bench.matrices(kind, rows, model.hidden);
  const Rotating out = bench.matrices(kind, rows, model.hidden);
  const TensorView weight = bench.vector(DType::f16, model.hidden);
  Figure figure{fmt::format("kernel_layer_norm_{}_{}rows", model.name, rows)};
  figure.bytes = 2.0 * static_cast<double>(in[0].bytes());
  figure.goal = goal;
  bench.measure(
      figure, [&](std::size_t i) { bench.ops().layer_norm(out[i], in[i], weight, weight, 1e-5F); });
}

void rms_norm(EngineBench& bench, const Model& model, std::int64_t rows) {
  bench.forget();
  const Rotating in = bench.matrices(bench.activations(), rows, model.hidden);
  const Rotating out = bench.matrices(bench.activations(), rows, model.hidden);
  const TensorView weight = bench.vector(DType::f16, model.hidden);
  Figure figure{fmt::format("kernel_rms_norm_{}_{}rows", model.name, rows)};
  figure.bytes = 2.0 * static_cast<double>(in[0].bytes());
  bench.measure(figure,
                [&](std::size_t i) { bench.ops().rms_norm(out[i], in[i], weight, 1e-5F, 0.0F); });
}

void rotate(EngineBench& bench, const Model& model, std::int64_t rows) {
  bench.forget();
  const auto head_dim = static_cast<std::int32_t>(model.hidden / model.heads);
  const Rotating heads = bench.matrices(bench.activations(), rows, model.hidden);
  std::vector<std::int32_t> positions;
  for (std::int64_t i = 0; i < rows; ++i) positions.push_back(static_cast<std::int32_t>(i % 4096));
  const std::vector<float> frequencies(static_cast<std::size_t>(head_dim / 2), 0.1F);
  const kernels::Rotation rotation{head_dim, head_dim, false, 1.0F,
                                   reinterpret_cast<const float*>(bench.upload(
                                       frequencies.data(), frequencies.size() * sizeof(float)))};
  const std::int32_t* const device_positions = bench.integers(positions);
  Figure figure{fmt::format("kernel_rotate_{}_{}rows", model.name, rows)};
  figure.bytes = 2.0 * static_cast<double>(heads[0].bytes());
  bench.measure(figure,
                [&](std::size_t i) { bench.ops().rotate(heads[i], rotation, device_positions); });
}

void gather(EngineBench& bench, const Settings& settings, const Model& model, std::int64_t rows) {
  bench.forget();
  const std::int64_t vocabulary = settings["--tiny"] != 0 ? 512 : kVocabulary;
  const Rotating table = bench.matrices(DType::f16, vocabulary, model.hidden);
  const Rotating out = bench.matrices(bench.activations(), rows, model.hidden);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < rows; ++i) {
    ids.push_back(static_cast<std::int32_t>(i * 7919 % vocabulary));
  }
  const std::int32_t* const device_ids = bench.integers(ids);
  Figure figure{fmt::format("kernel_gather_{}_{}rows", model.name, rows)};
  figure.bytes = static_cast<double>(out[0].bytes()) +
                 static_cast<double>(rows) * static_cast<double>(table[0].row_bytes());
  bench.measure(figure, [&](std::size_t i) {
    bench.ops().gather(out[i], {table[i], {}}, device_ids);
  });
}

void rows_in_and_out(EngineBench& bench, const Settings& settings) {
  for (const Model& model : models_of(settings)) {
    layer_norm(bench, model, prompt_rows(settings), 0.8);
    layer_norm(bench, model, 32, 0);
    for (const std::int64_t rows : {prompt_rows(settings), std::int64_t{32}}) {
      rms_norm(bench, model, rows);
      rotate(bench, model, rows);
    }
    gather(bench, settings, model, prompt_rows(settings));
  }
}

void append(EngineBench& bench, const Model& model, DType dtype, std::int32_t sequences,
            std::int32_t tokens, double goal) {
  bench.forget();
  Cache cache(bench, dtype, model.heads, model.hidden / model.heads, sequences, tokens, tokens);
  const Rotating keys = bench.matrices(bench.activations(), cache.rows(), model.hidden);
  const Rotating values = bench.matrices(bench.activations(), cache.rows(), model.hidden);
  Figure figure{
      fmt::format("kernel_append_kv_{}_{}_{}x{}", model.name, name_of(dtype), sequences, tokens)};
  figure.bytes = 2.0 * static_cast<double>(keys[0].bytes()) + cache.token_bytes(cache.rows());
  figure.goal = goal;
  bench.measure(figure, [&](std::size_t i) {
    bench.ops().append_kv(cache.pages(i), cache.batch(), keys[i], values[i]);
  });
}

/// `tokens` new ones of each sequence over `context`: 1 while decoding, all of them in prefill.
void attention(EngineBench& bench, const Model& model, DType dtype, std::int32_t sequences,
               std::int32_t context, std::int32_t tokens,
               const kernels::AttentionRule& rule = {0.125F}, const char* what = "attention") {
  bench.forget();
  const std::int64_t dim = model.hidden / model.heads;
  Cache cache(bench, dtype, model.heads, dim, sequences, context, tokens);
  const Rotating query = bench.matrices(bench.activations(), cache.rows(), model.hidden);
  const Rotating out = bench.matrices(bench.activations(), cache.rows(), model.hidden);
  const char* const phase = tokens == 1 ? "decode" : "prefill";
  Figure figure{fmt::format("kernel_{}_{}_{}_{}_{}x{}", what, phase, model.name, name_of(dtype),
                            sequences, context)};
  figure.bytes = cache.token_bytes(std::int64_t{sequences} * context) +
                 2.0 * static_cast<double>(query[0].bytes());
  // Row r of a prompt meets context - tokens + r + 1 keys, and as many values.
  const double meetings =
      static_cast<double>(sequences) * tokens * (static_cast<double>(context) - (tokens - 1) / 2.0);
  figure.flop = 4.0 * meetings * static_cast<double>(model.hidden);
  figure.goal = tokens == 1 ? 0.8 : 0.5;
  figure.of_flop = tokens > 1;
  bench.measure(figure, [&](std::size_t i) {
    bench.ops().attention(out[i], query[i], cache.pages(i), cache.batch(), rule);
  });
}

void all_attention(EngineBench& bench, const Settings& settings) {
  const bool tiny = settings["--tiny"] != 0;
  const std::int32_t prompt = tiny ? 32 : 512;
  const std::int32_t most = tiny ? 64 : 2048;
  const std::int32_t very_long = tiny ? 256 : 65536;
  for (const Model& model : models_of(settings)) {
    for (const DType dtype : {DType::f16, DType::q8, DType::q4}) {
      append(bench, model, dtype, 16, prompt, dtype == DType::f16 ? 0 : 0.8);
      attention(bench, model, dtype, 32, prompt + 32, 1);
      attention(bench, model, dtype, 32, most, 1);
      attention(bench, model, dtype, 1, very_long, 1);
    }
    append(bench, model, DType::f16, 32, 1, 0);
    attention(bench, model, DType::f16, 16, prompt, prompt);
    attention(bench, model, DType::f16, 4, most, most);
    const kernels::AttentionRule rule{.scale = 0.125F, .soft_cap = 50.0F, .alibi = 1.0F};
    attention(bench, model, DType::f16, 32, most, 1, rule, "attention_ruled");
    attention(bench, model, DType::f16, 16, prompt, prompt, rule, "attention_ruled");
  }
}

void sample(EngineBench& bench, const Settings& settings) {
  if (!bench.engine().backend->info().samples) {
    fmt::print("sample: this backend leaves it to the host\n");
    return;
  }
  const std::int64_t vocabulary = settings["--tiny"] != 0 ? 512 : kVocabulary;
  constexpr std::int64_t kRows = 32;
  const Rotating logits = bench.matrices(DType::f32, kRows, vocabulary);
  auto* const out =
      reinterpret_cast<kernels::SampledRow*>(bench.bytes(kRows * sizeof(kernels::SampledRow)));
  for (const bool greedy : {true, false}) {
    std::vector<kernels::SampleRow> rows(kRows);
    for (kernels::SampleRow& row : rows) {
      row.uniform = 0.37;
      if (!greedy) {
        row.temperature = 0.8F;
        row.top_p = 0.9F;
        row.top_k = 50;
      }
    }
    const auto* const wanted = reinterpret_cast<const kernels::SampleRow*>(
        bench.upload(rows.data(), rows.size() * sizeof(kernels::SampleRow)));
    Figure figure{fmt::format("kernel_sample_{}_{}rows", greedy ? "greedy" : "top_k_top_p", kRows)};
    figure.bytes = static_cast<double>(logits[0].bytes());
    bench.measure(figure, [&](std::size_t i) { bench.ops().sample(out, logits[i], wanted, {}); });
  }
}

void run(const Settings& settings) {
  EngineBench bench(settings);
  const std::map<std::string, std::function<void()>> parts = {
      {"linear", [&] { all_linear(bench, settings); }},
      {"rows", [&] { rows_in_and_out(bench, settings); }},
      {"attention", [&] { all_attention(bench, settings); }},
      {"sample", [&] { sample(bench, settings); }}};
  bench.measure_rates();
  for (const char* name : {"attention", "rows", "sample", "linear"}) {
    if (!settings.names("--only", name)) continue;
    parts.at(name)();
    bench.forget();
  }
}

}  // namespace
}  // namespace sluice::bench

int main(int count, char** words) {
  try {
    sluice::bench::run(sluice::bench::Settings(count, words));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_cuda_kernels: %s\n", error.what());
    return 2;
  }
}
