#include "offload/weights/row_packer.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <thread>

#include "kernels/device/error.h"
#include "kernels/group_quantize.h"

namespace sluice::offload {

namespace {

constexpr std::size_t kPieceBytes = std::size_t{8} << 20;

std::size_t size(std::int64_t rows, std::size_t row_bytes) {
  return static_cast<std::size_t>(rows) * row_bytes;
}

}  // namespace

RowPacker::RowPacker(WeightSource& source, int threads)
    : source_(source), threads_(std::max(threads, 1)) {}

void RowPacker::pack(const std::string& name, const WeightInfo& dense, DType to, const Sink& sink) {
  const std::size_t row_bytes = row_bytes_of(dense.dtype, dense.columns);
  const auto in_piece =
      static_cast<std::int64_t>(std::max<std::size_t>(1, kPieceBytes / row_bytes));
  const auto rows_from = [&](std::int64_t first) { return std::min(in_piece, dense.rows - first); };
  const auto read = [&](std::int64_t first) {
    Piece& piece = pieces_[first / in_piece % 2];
    const std::size_t bytes = size(rows_from(first), row_bytes);
    if (piece.data.size() < bytes) piece.data.resize(bytes);
    source_.read(dense, size(first, row_bytes), bytes, piece.data.data(), piece.reads);
  };
  read(0);
  for (std::int64_t first = 0; first < dense.rows; first += in_piece) {
    Piece& piece = pieces_[first / in_piece % 2];
    piece.reads.wait();
    if (first + in_piece < dense.rows) read(first + in_piece);
    const std::int64_t count = rows_from(first);
    if (to == dense.dtype) {
      sink(piece.data.data(), size(count, row_bytes));
    } else {
      quantize(name, dense, to, first, count, piece.data.data());
      sink(packed_.data(), size(count, row_bytes_of(to, dense.columns)));
    }
  }
}

// Rows [first, first + count) of the tensor into packed_.
void RowPacker::quantize(const std::string& name, const WeightInfo& dense, DType to,
                         std::int64_t first, std::int64_t count, const std::byte* rows) {
  const std::size_t from_bytes = row_bytes_of(dense.dtype, dense.columns);
  const std::size_t to_bytes = row_bytes_of(to, dense.columns);
  packed_.resize(std::max(packed_.size(), size(count, to_bytes)));
  const std::int64_t shares = std::min(threads_, count);
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(shares));
  const auto work = [&](std::int64_t share) {
    const std::int64_t begin = count * share / shares;
    const std::int64_t end = count * (share + 1) / shares;
    try {
      kernels::quantize_rows(dense.dtype, rows + size(begin, from_bytes), end - begin,
                             dense.columns, to, packed_.data() + size(begin, to_bytes));
    } catch (const InputError& error) {
      failures[static_cast<std::size_t>(share)] = std::make_exception_ptr(InputError(
          fmt::format("tensor \"{}\" from its row {} on: {}", name, first + begin, error.what())));
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (std::int64_t share = 1; share < shares; ++share) helpers.emplace_back(work, share);
    work(0);
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace sluice::offload
