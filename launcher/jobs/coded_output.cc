#include "launcher/jobs/coded_output.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::launcher {

CodedOutput::CodedOutput(std::string name, Coding coding)
    : name_(std::move(name)),
      coding_(coding),
      file_(name_, std::ios::binary),
      unpacker_(make_unpacker(coding)) {
  if (!file_) {
    throw IoError(fmt::format("cannot read the output {}: {}", name_, std::strerror(errno)));
  }
}

CodedOutput::int_type CodedOutput::underflow() {
  for (;;) {
    Unpacker::Step step;
    try {
      step = unpacker_->step(waiting_, plain_);
    } catch (const CodingError& problem) {
      throw InputError(
          fmt::format("the output {} is a damaged {} file: {} behind byte {}; unpack what can be "
                      "read of it, or "
                      "start anew with --overwrite",
                      name_, name_of(coding_), problem.what(), cut_.coded));
    }
    waiting_.remove_prefix(step.read);
    coded_bytes_ += step.read;
    plain_bytes_ += step.written;
    if (step.written > 0) ends_line_ = plain_[step.written - 1] == '\n';
    if (step.read + step.written > 0 && ends_line_ && unpacker_->can_close()) {
      cut_ = {coded_bytes_, plain_bytes_, unpacker_->closing()};
    }
    if (step.written > 0) {
      setg(plain_.data(), plain_.data(), plain_.data() + step.written);
      return traits_type::to_int_type(plain_.front());
    }
    if (!waiting_.empty() || step.read > 0) continue;
    const std::streamsize count = file_.rdbuf()->sgetn(stored_.data(), std::ssize(stored_));
    if (count == 0) return traits_type::eof();
    waiting_ = {stored_.data(), static_cast<std::size_t>(count)};
  }
}

}  // namespace sluice::launcher
