// Stacks that one host thread switches between.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <cstddef>

namespace sluice::support {

/// Where somebody who stopped goes on, and the stack it does so on (for sanitizers).
struct Resumption {
  boost::context::detail::fcontext_t at = nullptr;
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  void* fake_stack = nullptr;
  void* thread_state = nullptr;
};

/// Stops the one that runs, until somebody switches back to `from`.
void switch_to(Resumption& from, const Resumption& to);

/// The first words of what begins on a fiber, with what it was given.
void arrive(boost::context::detail::transfer_t transfer);

/// A stack of its own, with a page below it that nobody may touch.
class Fiber {
 public:
  using Body = void (*)(boost::context::detail::transfer_t);

  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Lets the next switch to `resumption` begin `body`, which must not return; what was on the
  /// stack is forgotten.
  void prepare(Body body);

  Resumption resumption;

 private:
  boost::context::protected_fixedsize_stack allocator_;
  boost::context::stack_context stack_;
};

}  // namespace sluice::support
