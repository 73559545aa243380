// What `sluice bench` is asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::launcher {

/// Of made-up prompts and their answers, in tokens.
struct BenchShape {
  std::int32_t prompt = 512;
  std::int32_t answer = 32;
};

enum class BenchCase : std::uint8_t { generate, scaling };
enum class BenchForm : std::uint8_t { markdown, csv, json };

struct BenchArguments {
  BenchCase what = BenchCase::generate;
  std::vector<BenchShape> shapes = {{}};
  std::vector<std::int32_t> batches = {1, 8, 32};  // generate: sequences of a GPU batch
  std::vector<std::int32_t> stages = {1, 2, 4};    // scaling: numbers of ranks
  std::int32_t prompts = 0;                        // scaling: of the strong job, >= 1
  std::int32_t repetitions = 3;
  BenchForm form = BenchForm::markdown;
  std::string page;  // scaling: an HTML file; empty: none
  std::string model;
  std::vector<std::string> run_flags;  // handed to `sluice generate` as they are
};

}  // namespace sluice::launcher
