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

enum class BenchCase : std::uint8_t { generate, scaling, serve };
enum class BenchForm : std::uint8_t { markdown, csv, json };

/// What clients do to a server.
struct ServeLoad {
  std::string url;           // of a server that runs; empty: one is started
  std::int32_t ranks = 1;    // of the server that is started
  double request_rate = 0;   // requests per second, at random (Poisson); 0: all at once
  std::int32_t at_once = 0;  // most requests under way; 0: any number
  std::int32_t requests = 100;
  std::int32_t warm_up = 1;  // requests before, which are not counted
  std::int32_t prefix = 0;   // tokens with which every made-up prompt begins
  std::string dataset;       // JSON lines in place of made-up prompts; empty: none
  std::uint64_t seed = 0;    // of prompts and times
  std::string json;          // file for all figures; empty: none
};

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
  std::vector<std::string> run_flags;  // handed to `sluice generate` or `serve` as they are
  ServeLoad load;
};

}  // namespace sluice::launcher
