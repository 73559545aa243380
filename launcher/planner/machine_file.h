// machine.yaml: a Machine as a file that people can read. `sluice calibrate` writes it; a run's own
// one-second probe writes a part of it (probe_cache.h).
//
// A figure is one line: {value: 12.9, unit: GB/s, spread: 0.02, date: 2026-11-30, how: "..."}. Its
// unit may have a prefix (k, M, G, T, P; Ki, Mi, Gi, Ti; ms, us). docs/planner.md lists the keys.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "launcher/planner/machine.h"

namespace sluice::launcher {

/// What a file must have.
enum class MachineParts : std::uint8_t {
  all,  // every figure that a plan needs
  any   // a probe's few
};

/// Throws ConfigError, with every problem on a line of its own: "m.yaml:12:5: key
/// 'device.memory_read.value': ...". Refused are missing and unknown keys, rates that are negative
/// or cannot be (more than 1e15 bytes or 1e19 FLOP a second), a spread beyond 1, a unit of another
/// kind, sizes that do not grow, and a probe's file where `parts` is all.
Machine read_machine_file(const std::filesystem::path& file,
                          MachineParts parts = MachineParts::all);

/// The same, from memory; `name` stands for the file's in messages.
Machine read_machine_text(const std::string& text, const std::string& name,
                          MachineParts parts = MachineParts::all);

/// What read_machine_text() reads back to the same, to six digits. Figures that are not known are
/// left out.
std::string to_yaml(const Machine& machine, MachineParts parts = MachineParts::all);

/// Replaces `file` in one step; makes its folder. Throws IoError or CapacityError.
void write_machine_file(const std::filesystem::path& file, const Machine& machine,
                        MachineParts parts = MachineParts::all);

/// "Intel(R) Xeon(R) Processor @ 2.50GHz", of /proc/cpuinfo; "unknown processor" where it does not
/// say.
std::string processor_name();

/// $XDG_CACHE_HOME/sluice, or ~/.cache/sluice; empty: neither is set.
std::filesystem::path machine_cache_folder();

/// machine_cache_folder() / machine-<host>-<processor>.yaml, or empty.
std::filesystem::path machine_file_path(const std::string& host, const std::string& processor);

/// The day, UTC, of a time in seconds since 1970: "2026-11-30".
std::string date_of(std::int64_t seconds);

/// `file`; where that is empty this machine's own of the cache folder, or nothing where there is
/// none. Throws ConfigError.
std::optional<Machine> find_machine(const std::filesystem::path& file);

}  // namespace sluice::launcher
