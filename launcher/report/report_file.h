// Writing a report or trace file.
#pragma once

#include <filesystem>
#include <string>

namespace sluice::launcher {

/// Throws ConfigError when a file cannot be made there: asked before a run of hours, not after.
/// `flag` is what named it: "--report".
void check_writable(const std::filesystem::path& path, const std::string& flag);

/// Replaces `path` in one step (a new file beside it, renamed), so that no half report is ever
/// seen; a device or pipe such as /dev/stdout is written as it is. Throws IoError, or CapacityError
/// when the disk is full.
void write_report_file(const std::filesystem::path& path, const std::string& text);

}  // namespace sluice::launcher
