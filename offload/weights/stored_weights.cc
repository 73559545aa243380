#include "offload/weights/stored_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "kernels/device/error.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::offload {

namespace {

std::string shape_text(std::int64_t rows, std::int64_t columns) {
  return rows == 1 ? fmt::format("[{}]", columns) : fmt::format("[{}, {}]", rows, columns);
}

const TensorRecord& record_of(const Checkpoint& checkpoint, const std::string& name,
                              const WeightSpec& spec) {
  const TensorRecord* record = checkpoint.find(name);
  if (record == nullptr) {
    const auto& files = checkpoint.files();
    const std::string* shard = checkpoint.promised(name);
    if (shard != nullptr) {
      throw InputError(fmt::format(
          "the index in {} says that {} holds \"{}\", but it does not; fetch both files again",
          files.front().parent_path().string(), printable(*shard), printable(name)));
    }
    throw InputError(
        fmt::format("the checkpoint in {} has no tensor \"{}\" of shape {}, which its "
                    "config.json asks for; fetch the model again",
                    files.empty() ? "?" : files.front().parent_path().string(), name,
                    shape_text(spec.rows, spec.columns)));
  }
  if (!record->problem.empty()) {
    throw InputError(fmt::format(
        "{}: tensor \"{}\" {}", checkpoint.files()[static_cast<std::size_t>(record->file)].string(),
        printable(record->name), record->problem));
  }
  return *record;
}

/// Rows of a matrix of `columns`, or elements of a vector; 0: the stored tensor has another form.
std::int64_t stored_rows(const TensorRecord& record, bool is_vector, std::int64_t columns,
                         bool transposed) {
  if (is_vector && record.shape.size() == 1) return record.shape[0];
  if (is_vector || record.shape.size() != 2) return 0;
  const std::size_t row = transposed ? 1 : 0;
  return record.shape[1 - row] == columns ? record.shape[row] : 0;
}

/// Whether whole pieces, none of them over another, are `wanted` rows out of `there`.
bool pieces_fit(const RowRange& rows, std::int64_t wanted, std::int64_t there) {
  if (rows.first < 0 || rows.piece < 1 || wanted % rows.piece != 0) return false;
  const std::int64_t further = wanted / rows.piece - 1;
  if (further > 0 && rows.step < rows.piece) return false;
  return rows.first + further * rows.step + rows.piece <= there;
}

}  // namespace

std::uint64_t StoredWeight::position(std::uint64_t offset) const {
  const std::uint64_t piece_bytes = static_cast<std::uint64_t>(rows.piece) * row_bytes;
  const std::uint64_t first = static_cast<std::uint64_t>(rows.first) +
                              offset / piece_bytes * static_cast<std::uint64_t>(rows.step);
  return record->offset + first * row_bytes + offset % piece_bytes;
}

std::uint64_t StoredWeight::left_in_piece(std::uint64_t offset) const {
  const std::uint64_t piece_bytes = static_cast<std::uint64_t>(rows.piece) * row_bytes;
  return piece_bytes - offset % piece_bytes;
}

StoredWeight find_weight(const Checkpoint& checkpoint, const StoredNames& names,
                         const WeightSpec& spec) {
  const auto entry = names.find(spec.name);
  const StoredName stored =
      entry == names.end() ? StoredName{spec.name, RowRange{}, false} : entry->second;
  const TensorRecord& record = record_of(checkpoint, stored.tensor, spec);
  // A stored matrix of one row is a vector, too.
  const bool is_vector = spec.rows == 1 && record.shape.size() == 1;
  const std::int64_t wanted = is_vector ? spec.columns : spec.rows;
  const std::int64_t there = stored_rows(record, is_vector, spec.columns, stored.transposed);
  const RowRange& rows = stored.rows;
  const bool is_whole = rows.piece == 0;
  const bool fits = is_whole ? there == wanted : pieces_fit(rows, wanted, there);
  if (!fits || wanted < 1) {
    const auto& file = checkpoint.files()[static_cast<std::size_t>(record.file)];
    throw InputError(fmt::format(
        "{}: tensor \"{}\" has the shape [{}], but config.json asks for {}{}; the two are not of "
        "the same model",
        file.string(), printable(record.name), fmt::join(record.shape, ", "),
        shape_text(spec.rows, spec.columns),
        fmt::format("{}{}", stored.transposed ? ", stored by columns" : "",
                    is_whole ? "" : fmt::format(" in pieces from {} on", rows.first))));
  }
  StoredWeight weight{&record, rows, 0, stored.transposed};
  if (is_whole) weight.rows = {0, wanted, 0};
  weight.row_bytes = is_vector ? size_of(record.dtype) : row_bytes_of(record.dtype, spec.columns);
  return weight;
}

void read_transposed(const StoredWeight& weight, const InputFile& file, std::int64_t first,
                     std::int64_t count, std::byte* target) {
  const TensorRecord& record = *weight.record;
  const std::size_t element = size_of(record.dtype);
  const auto inputs = static_cast<std::size_t>(record.shape[0]);
  const auto stored_row = static_cast<std::uint64_t>(record.shape[1]) * element;
  const RowRange& rows = weight.rows;
  while (count > 0) {
    const std::int64_t in_piece = std::min(count, rows.piece - first % rows.piece);
    const std::int64_t column = rows.first + first / rows.piece * rows.step + first % rows.piece;
    const std::uint64_t begin = record.offset + static_cast<std::uint64_t>(column) * element;
    const std::size_t bytes = static_cast<std::size_t>(in_piece) * element;
    for (std::size_t input = 0; input < inputs; ++input) {
      const std::string columns = file.read(begin + input * stored_row, bytes);
      for (std::size_t at = 0; at < bytes; at += element) {
        std::memcpy(target + at * inputs + input * element, columns.data() + at, element);
      }
    }
    target += bytes * inputs;
    first += in_piece;
    count -= in_piece;
  }
}

bool same_content(const Checkpoint& checkpoint, const TensorRecord& a, const TensorRecord& b) {
  if (a.dtype != b.dtype || a.shape != b.shape || a.bytes != b.bytes) return false;
  if (a.file == b.file && a.offset == b.offset) return true;
  constexpr std::uint64_t kPiece = std::uint64_t{4} << 20U;
  const InputFile file_a(checkpoint.files()[static_cast<std::size_t>(a.file)]);
  const InputFile file_b(checkpoint.files()[static_cast<std::size_t>(b.file)]);
  for (std::uint64_t at = 0; at < a.bytes; at += kPiece) {
    const std::uint64_t count = std::min(kPiece, a.bytes - at);
    if (file_a.read(a.offset + at, count) != file_b.read(b.offset + at, count)) return false;
  }
  return true;
}

}  // namespace sluice::offload
