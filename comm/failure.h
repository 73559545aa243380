// What a caught exception means for a job: one place turns it into a status and a sentence, and
// one tells the other ranks.
#pragma once

#include <exception>
#include <functional>

#include "comm/world.h"
#include "kernels/device/error.h"

namespace sluice::comm {

/// The Error that `cause` is. std::bad_alloc becomes one with ExitStatus::no_space; any other
/// exception becomes one with its message and ExitStatus::failure.
Error as_error(const std::exception_ptr& cause) noexcept;

/// World::fail() with the status and sentence of `cause`. Over MPI this ends the process. Between
/// ranks of one process it returns, and every later call of any rank's world throws.
void fail_world(World& world, const std::exception_ptr& cause) noexcept;

/// Runs a phase that every rank goes through. If it fails on any rank, all ranks throw the same, as
/// agree() says. Collective.
void together(World& world, const std::function<void()>& phase);

}  // namespace sluice::comm
