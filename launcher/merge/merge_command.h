// `sluice merge`: the outputs of several runs of one job, such as its shards, as one file.
#pragma once

#include <iosfwd>

#include "kernels/device/error.h"
#include "launcher/config/merge_arguments.h"

namespace sluice::launcher {

/// Writes each row's record once: its first answer, or else its last error. Says on `said` what was
/// merged, and what is missing or double. The output is there whole or not at all. Texts stay in
/// the files, 16 bytes of a record in memory. Coded files are unpacked beside the output for as
/// long. Returns rows_failed where rows have no answer, or records no row. Throws InputError,
/// ConfigError, IoError, CapacityError.
ExitStatus merge(const MergeArguments& arguments, std::ostream& said);

}  // namespace sluice::launcher
