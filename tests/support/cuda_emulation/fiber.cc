#include "tests/support/cuda_emulation/fiber.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace sluice::support {

namespace context = boost::context::detail;

namespace {

constexpr std::size_t kStackBytes = 256 << 10;

#ifdef __SANITIZE_ADDRESS__
void before_switch(Resumption& from, const Resumption& to) {
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.bytes);
}
void after_switch(void* fake_stack, Resumption& from) {
  __sanitizer_finish_switch_fiber(fake_stack, &from.bottom, &from.bytes);
}
void forget(const void* bottom, std::size_t bytes) { __asan_unpoison_memory_region(bottom, bytes); }
#else
void before_switch(Resumption&, const Resumption&) {}
void after_switch(void*, Resumption&) {}
void forget(const void*, std::size_t) {}
#endif

/// Keeps where the one goes on that switched here.
void keep(context::transfer_t transfer, void* fake_stack) {
  auto& from = *static_cast<Resumption*>(transfer.data);
  from.at = transfer.fctx;
  after_switch(fake_stack, from);
}

}  // namespace

void switch_to(Resumption& from, const Resumption& to) {
  before_switch(from, to);
  const context::transfer_t back = context::jump_fcontext(to.at, &from);
  keep(back, from.fake_stack);
}

void arrive(context::transfer_t transfer) { keep(transfer, nullptr); }

Fiber::Fiber() : allocator_(kStackBytes), stack_(allocator_.allocate()) {
  resumption.bottom = static_cast<std::byte*>(stack_.sp) - stack_.size;
  resumption.bytes = stack_.size;
}

Fiber::~Fiber() { allocator_.deallocate(stack_); }

void Fiber::prepare(Body body) {
  forget(resumption.bottom, resumption.bytes);
  resumption.at = context::make_fcontext(stack_.sp, stack_.size, body);
}

}  // namespace sluice::support
