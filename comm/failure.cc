#include "comm/failure.h"

#include <new>
#include <optional>

namespace sluice::comm {

Error as_error(const std::exception_ptr& cause) noexcept {
  try {
    std::rethrow_exception(cause);
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {ExitStatus::no_space, "the host has no memory left for this process; free some"};
  } catch (const std::exception& error) {
    return {ExitStatus::failure, error.what()};
  } catch (...) {
    return {ExitStatus::failure, "an unknown exception was thrown; this is a bug of sluice"};
  }
}

void fail_world(World& world, const std::exception_ptr& cause) noexcept {
  const Error error = as_error(cause);
  try {
    world.fail(error.status(), error.what());
  } catch (const Error&) {  // thrown between ranks of one process; the caller keeps the cause
  }
}

void together(World& world, const std::function<void()>& phase) {
  std::optional<Error> problem;
  try {
    phase();
  } catch (...) {
    problem = as_error(std::current_exception());
  }
  agree(world, problem ? &*problem : nullptr);
}

}  // namespace sluice::comm
