#include "launcher/report/load_display.h"

#include <fmt/format.h>

namespace sluice::launcher {

LoadDisplay::LoadDisplay(std::ostream& out, ProgressStyle style, std::uint64_t load_bytes)
    : out_(out), style_(style), load_bytes_(load_bytes) {}

void LoadDisplay::packing(const offload::PackingState& state) {
  if (!packing_known_) {
    packing_known_ = true;
    out_ << fmt::format("packed weights {} {}\n",
                        state.total == 0 ? "found in" : "are being made in", state.folder.string());
    if (state.total > 0) begin("packing", state.total);
  }
  if (state.total > 0) progress_->update(state.done);
}

void LoadDisplay::loaded(std::uint64_t bytes) {
  if (!loading_) {
    loading_ = true;
    begin("loading", load_bytes_);
  }
  loaded_ += bytes;
  progress_->update(loaded_);
}

void LoadDisplay::finish() {
  if (!loading_) loaded(0);
  progress_->finish();
}

void LoadDisplay::begin(const char* what, std::uint64_t total) {
  if (progress_) progress_->finish();
  progress_.emplace(out_, style_, what, Progress::Unit::bytes, total);
}

}  // namespace sluice::launcher
