#include "tests/support/cuda_emulation/fiber.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
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
#elif defined(__SANITIZE_THREAD__)
void before_switch(Resumption& from, const Resumption& to) {
  from.thread_state = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.thread_state, 0);
}
void after_switch(void*, Resumption&) {}
void forget(const void*, std::size_t) {}
#else
void before_switch(Resumption&, const Resumption&) {}
void after_switch(void*, Resumption&) {}
void forget(const void*, std::size_t) {}
#endif

#ifdef __SANITIZE_THREAD__
void* make_thread_state() { return __tsan_create_fiber(0); }
void end_thread_state(void* state) { __tsan_destroy_fiber(state); }
#else
void* make_thread_state() { return nullptr; }
void end_thread_state(void*) {}
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
  resumption.thread_state = make_thread_state();
}

Fiber::~Fiber() {
  end_thread_state(resumption.thread_state);
  allocator_.deallocate(stack_);
}

void Fiber::prepare(Body body) {
  forget(resumption.bottom, resumption.bytes);
  resumption.at = context::make_fcontext(stack_.sp, stack_.size, body);
}

}  // namespace sluice::support
