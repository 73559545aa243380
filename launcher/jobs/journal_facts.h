// What a journal belongs to: the run by its facts, a row by its key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "launcher/config/run_config.h"
#include "launcher/jobs/journal_format.h"
#include "launcher/jobs/request_row.h"

namespace sluice::launcher {

/// The input by its file's name, without the folder; the model by `model`, a digest of all that it
/// is; how its numbers are kept; and what rows get that do not say otherwise. `input_name` is empty
/// for a pipe, of which nothing is known. Where bytes lie, and how many ranks there are, changes no
/// token and is left out.
std::vector<JournalFact> journal_facts(const RunConfig& config, const GenerationDefaults& defaults,
                                       const std::string& input_name, std::uint64_t model);

/// Everything that the tokens of a row's request depend on, beside the facts. `part`: which of the
/// row's requests it is.
JournalKey journal_key(const RequestRow& row, std::size_t part = 0);

}  // namespace sluice::launcher
