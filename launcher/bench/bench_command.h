// `sluice bench`: runs `sluice generate` for real, several times, and makes tables of its reports.
#pragma once

#include <cstdint>
#include <iostream>
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

/// Tables go to `out`, a line for each run to `log`. Runs are interleaved: the first repetition of
/// everything, then the second. Throws ConfigError, IoError, and Error with a run's own exit
/// status and last words where it fails.
void bench(const BenchArguments& arguments, std::ostream& out = std::cout,
           std::ostream& log = std::cerr);

}  // namespace sluice::launcher
