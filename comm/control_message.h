// What ranks tell each other beside their messages: a heartbeat with the rank's step, a failure
// with its cause, or the wish that the job stop. The layout is fixed and in the machine's byte
// order: all ranks run one program.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "comm/step_board.h"
#include "kernels/device/error.h"

namespace sluice::comm {

enum class ControlKind : std::uint32_t { heartbeat = 1, failure = 2, stop = 3 };

constexpr std::size_t kControlBytes = 4096;
using ControlBytes = std::array<std::byte, kControlBytes>;

struct ControlMessage {
  ControlKind kind = ControlKind::heartbeat;
  ExitStatus status = ExitStatus::done;  // of a failure, or a stop
  Step step;
  std::string sentence;  // of a failure; of a stop, what asked for it; cut to fit
};

/// Returns how many bytes of `target` it takes.
std::size_t encode(const ControlMessage& message, ControlBytes& target);

/// Nothing where the bytes are not a control message; a failure's status is one of a process that
/// failed.
std::optional<ControlMessage> decode(std::span<const std::byte> bytes);

}  // namespace sluice::comm
