// The requests of `sluice bench serve`: prompts that are made up or read, and when they are sent.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>
#include <vector>

#include "launcher/bench/http_client.h"
#include "launcher/config/bench_arguments.h"

namespace sluice::launcher {

/// Of `ids`, which the server's model has, in an order that `load.seed` makes: the first
/// `load.prefix` tokens of each prompt are the same. Answers are of the shape's length, greedy, and
/// do not end before. `first`: the number of the first of `count` requests; each number has a
/// prompt of its own, the same in every run.
std::vector<LoadRequest> made_up_requests(std::span<const std::int32_t> ids,
                                          const BenchShape& shape, const ServeLoad& load,
                                          std::int32_t first, std::int32_t count);

/// Of JSON lines with "prompt" or "messages" and any fields of a request, from `file` again from
/// its beginning where it has fewer than `count`. Rows that say no max_tokens get the shape's.
/// Throws InputError with the line.
std::vector<LoadRequest> read_requests(std::istream& lines, const std::string& file,
                                       const BenchShape& shape, std::int32_t count);

/// Sets when the requests are sent: gaps are random, of the mean 1 / rate (Poisson arrivals).
void set_times(const ServeLoad& load, std::vector<LoadRequest>& requests);

}  // namespace sluice::launcher
