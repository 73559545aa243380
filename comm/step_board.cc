#include "comm/step_board.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

using Word = std::atomic<std::uint64_t>;
static_assert(Word::is_always_lock_free, "a lock inside the word would not be shared");

constexpr std::size_t kTextWords = sizeof(Step::text) / sizeof(std::uint64_t);

// Atomic words: a reader may race with a writer, and never sees a part of a word.
struct SharedStep {
  std::array<Word, kTextWords> text;
  Word pass;
  Word layer;
};

[[noreturn]] void throw_errno(const char* call, const std::string& name) {
  throw IoError(fmt::format(
      "{} of the shared memory {} failed: {}; the ranks of a host need a writable /dev/shm.", call,
      name, std::strerror(errno)));
}

}  // namespace

// Zero bytes, as new shared memory has them, are a board on which nobody has written yet.
struct alignas(64) StepBoard::Seat {
  // Two copies, written in turn: a writer that is killed half-way spoils only the older step.
  std::array<SharedStep, 2> steps;
  std::atomic<std::uint64_t> written;
  std::atomic<std::uint32_t> left;
};

struct StepBoard::Layout {
  std::atomic<int> last_word;  // 0: not claimed; else the exit code plus one
  Seat* seats() { return reinterpret_cast<Seat*>(reinterpret_cast<std::byte*>(this) + 64); }
};

Step make_step(const char* text, std::int64_t pass, std::int64_t layer) {
  Step step;
  std::strncpy(step.text.data(), text, step.text.size() - 1);
  step.pass = pass;
  step.layer = layer;
  return step;
}

std::string describe(const Step& step) {
  std::string text(step.text.data(), strnlen(step.text.data(), step.text.size()));
  if (text.empty()) return "starting";
  if (step.layer >= 0) text += fmt::format("{}{}", text == "layer" ? " " : " layer ", step.layer);
  return step.pass >= 0 ? fmt::format("pass {}, {}", step.pass, text) : text;
}

StepBoard::StepBoard(const std::string& name, int seats, int open_flags)
    : bytes_(64 + static_cast<std::size_t>(seats) * sizeof(Seat)) {
  const int file = shm_open(name.c_str(), open_flags, 0600);
  if (file < 0) throw_errno("shm_open", name);
  const bool creating = (open_flags & O_CREAT) != 0;
  const bool sized = !creating || ftruncate(file, static_cast<off_t>(bytes_)) == 0;
  void* data =
      sized ? mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  const int error = errno;
  close(file);  // the mapping stays; a read-write mapping has nothing to lose by close
  if (data == MAP_FAILED) {
    errno = error;
    throw_errno(sized ? "mmap" : "ftruncate", name);
  }
  layout_ = static_cast<Layout*>(data);
}

StepBoard StepBoard::create(const std::string& name, int seats) {
  return StepBoard(name, seats, O_CREAT | O_EXCL | O_RDWR);
}

StepBoard StepBoard::open(const std::string& name, int seats) {
  return StepBoard(name, seats, O_RDWR);
}

void StepBoard::remove_name(const std::string& name) {
  if (shm_unlink(name.c_str()) != 0) throw_errno("shm_unlink", name);
}

StepBoard::StepBoard(StepBoard&& other) noexcept
    : writing_(std::move(other.writing_)), layout_(other.layout_), bytes_(other.bytes_) {
  other.layout_ = nullptr;
}

StepBoard::~StepBoard() {
  if (layout_ != nullptr) munmap(layout_, bytes_);
}

void StepBoard::write(int seat_index, const Step& step) noexcept {
  // Two writers at once would share a copy, and a reader would see parts of both steps.
  const std::lock_guard lock(*writing_);
  Seat& seat = layout_->seats()[seat_index];
  const std::uint64_t written = seat.written.load(std::memory_order_relaxed) + 1;
  SharedStep& shared = seat.steps[written % 2];
  // Readers notice a copy that is overwritten by the count of the step before. That count must be
  // seen first.
  std::atomic_thread_fence(std::memory_order_release);
  std::array<std::uint64_t, kTextWords> words;
  std::memcpy(words.data(), step.text.data(), sizeof words);
  for (std::size_t i = 0; i < kTextWords; ++i) {
    shared.text[i].store(words[i], std::memory_order_relaxed);
  }
  shared.pass.store(static_cast<std::uint64_t>(step.pass), std::memory_order_relaxed);
  shared.layer.store(static_cast<std::uint64_t>(step.layer), std::memory_order_relaxed);
  seat.written.store(written, std::memory_order_release);
}

Step StepBoard::read(int seat_index) const noexcept {
  const Seat& seat = layout_->seats()[seat_index];
  Step step;
  // A writer that is two steps ahead overwrites the copy being read. Then there is a newer copy to
  // read. Steps are microseconds apart, so this ends soon.
  while (true) {
    const std::uint64_t written = seat.written.load(std::memory_order_acquire);
    if (written == 0) return Step{};
    const SharedStep& shared = seat.steps[written % 2];
    std::array<std::uint64_t, kTextWords> words;
    for (std::size_t i = 0; i < kTextWords; ++i) {
      words[i] = shared.text[i].load(std::memory_order_relaxed);
    }
    std::memcpy(step.text.data(), words.data(), sizeof words);
    step.pass = static_cast<std::int64_t>(shared.pass.load(std::memory_order_relaxed));
    step.layer = static_cast<std::int64_t>(shared.layer.load(std::memory_order_relaxed));
    std::atomic_thread_fence(std::memory_order_acquire);
    if (seat.written.load(std::memory_order_relaxed) == written) return step;
  }
}

std::uint64_t StepBoard::steps(int seat) const noexcept {
  return layout_->seats()[seat].written.load();
}

void StepBoard::leave(int seat) noexcept { layout_->seats()[seat].left.store(1); }

bool StepBoard::left(int seat) const noexcept { return layout_->seats()[seat].left.load() != 0; }

bool StepBoard::claim_last_word(int exit_code) noexcept {
  int nobody = 0;
  return layout_->last_word.compare_exchange_strong(nobody, exit_code + 1);
}

int StepBoard::last_exit_code() const noexcept { return layout_->last_word.load() - 1; }

}  // namespace sluice::comm
