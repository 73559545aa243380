#include "offload/weights/stored_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "kernels/device/error.h"
#include "offload/checkpoint/block_format.h"
#include "offload/checkpoint/gguf_file.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::offload {

namespace {

std::string shape_text(std::int64_t rows, std::int64_t columns) {
  return rows == 1 ? fmt::format("[{}]", columns) : fmt::format("[{}, {}]", rows, columns);
}

/// A GGUF file has the weights, and says how large they are.
bool has_one_file(const Checkpoint& checkpoint) {
  const auto& files = checkpoint.files();
  return !files.empty() && is_gguf(files.front());
}

/// For messages: what says how large weights are.
const char* asking(const Checkpoint& checkpoint) {
  return has_one_file(checkpoint) ? "metadata" : "config.json";
}

/// For messages: where a tensor was looked for.
std::string place_of(const Checkpoint& checkpoint) {
  const auto& files = checkpoint.files();
  if (has_one_file(checkpoint)) return files.front().string();
  return fmt::format("the checkpoint in {}",
                     files.empty() ? "?" : files.front().parent_path().string());
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
    throw InputError(fmt::format(
        "{} has no tensor \"{}\" of shape {}, which its {} asks for; fetch the model "
        "again",
        place_of(checkpoint), name, shape_text(spec.rows, spec.columns), asking(checkpoint)));
  }
  if (!record->problem.empty()) {
    throw InputError(fmt::format(
        "{}: tensor \"{}\" {}", checkpoint.files()[static_cast<std::size_t>(record->file)].string(),
        printable(record->name), record->problem));
  }
  return *record;
}

/// What is stored as one matrix: of three dimensions the first two are rows.
struct StoredMatrix {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};
StoredMatrix matrix_of(const TensorRecord& record) {
  const std::vector<std::int64_t>& shape = record.shape;
  std::int64_t rows = 0;
  if (shape.size() == 2) return {shape[0], shape[1]};
  const bool fits = shape.size() == 3 && !__builtin_mul_overflow(shape[0], shape[1], &rows);
  return fits ? StoredMatrix{rows, shape[2]} : StoredMatrix{};
}

/// Rows of a matrix of `columns`, or elements of a vector; 0: the stored tensor has another form.
std::int64_t stored_rows(const TensorRecord& record, bool is_vector, std::int64_t columns,
                         const StoredName& stored) {
  if (is_vector && record.shape.size() == 1) return record.shape[0];
  const bool is_part = stored.rows.piece > 0 || stored.inputs > 0;
  if (is_vector || (record.shape.size() != 2 && !is_part)) return 0;
  const StoredMatrix matrix = matrix_of(record);
  if (!stored.transposed) return matrix.columns == columns ? matrix.rows : 0;
  const std::int64_t inputs = stored.inputs == 0 ? matrix.rows : stored.inputs;
  const bool fits = stored.rows.first_input >= 0 && stored.rows.first_input <= matrix.rows - inputs;
  return inputs == columns && fits ? matrix.columns : 0;
}

/// Whether whole pieces, none of them over another, are `wanted` rows out of `there`.
bool pieces_fit(const RowRange& rows, std::int64_t wanted, std::int64_t there) {
  if (rows.first < 0 || rows.piece < 1 || wanted % rows.piece != 0) return false;
  const std::int64_t further = wanted / rows.piece - 1;
  if (further > 0 && rows.step < rows.piece) return false;
  return rows.first + further * rows.step + rows.piece <= there;
}

/// Columns [first, first + count) of what is stored, each as a row.
void gather_columns(const StoredWeight& weight, const InputFile& file, std::int64_t first,
                    std::int64_t count, std::byte* target) {
  const TensorRecord& record = *weight.record;
  const std::size_t element = size_of(record.dtype);
  const auto inputs = static_cast<std::size_t>(weight.inputs);
  const auto stored_row = static_cast<std::uint64_t>(matrix_of(record).columns) * element;
  const std::uint64_t begin = record.offset +
                              static_cast<std::uint64_t>(weight.rows.first_input) * stored_row +
                              static_cast<std::uint64_t>(first) * element;
  const std::size_t bytes = static_cast<std::size_t>(count) * element;
  for (std::size_t input = 0; input < inputs; ++input) {
    const std::string columns = file.read(begin + input * stored_row, bytes);
    for (std::size_t at = 0; at < bytes; at += element) {
      std::memcpy(target + at * inputs + input * element, columns.data() + at, element);
    }
  }
}

/// Rows [first, first + count) of blocks, as f32.
void widen_rows(const TensorRecord& record, const InputFile& file, std::int64_t first,
                std::int64_t count, std::byte* target) {
  const std::int64_t in_row = record.shape[1] / block_elements(record.blocks);
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(in_row) * block_bytes(record.blocks);
  const std::string blocks =
      file.read(record.offset + static_cast<std::uint64_t>(first) * row_bytes,
                static_cast<std::uint64_t>(count) * row_bytes);
  widen_blocks(record.blocks, reinterpret_cast<const std::byte*>(blocks.data()), count * in_row,
               reinterpret_cast<float*>(target));
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
      entry == names.end() ? StoredName{spec.name, RowRange{}} : entry->second;
  const TensorRecord& record = record_of(checkpoint, stored.tensor, spec);
  // A stored matrix of one row is a vector, too.
  const bool is_vector = spec.rows == 1 && record.shape.size() == 1;
  const std::int64_t wanted = is_vector ? spec.columns : spec.rows;
  const std::int64_t there = stored_rows(record, is_vector, spec.columns, stored);
  const RowRange& rows = stored.rows;
  const bool is_whole = rows.piece == 0;
  const bool is_row = record.blocks == BlockFormat::none || record.shape.size() == 2;
  const bool fits = is_row && (is_whole ? there == wanted : pieces_fit(rows, wanted, there));
  if (!fits || wanted < 1) {
    const auto& file = checkpoint.files()[static_cast<std::size_t>(record.file)];
    throw InputError(fmt::format(
        "{}: tensor \"{}\" has the shape [{}], but {} asks for {}{}; the two are not of the same "
        "model",
        file.string(), printable(record.name), fmt::join(record.shape, ", "), asking(checkpoint),
        shape_text(spec.rows, spec.columns),
        fmt::format("{}{}", stored.transposed ? ", stored by columns" : "",
                    is_whole ? "" : fmt::format(" in pieces from {} on", rows.first))));
  }
  StoredWeight weight{&record, rows, 0, stored.transposed, spec.columns};
  if (is_whole) weight.rows = {0, wanted, 0, rows.first_input};
  weight.row_bytes = is_vector ? size_of(record.dtype) : row_bytes_of(record.dtype, spec.columns);
  return weight;
}

void read_relaid(const StoredWeight& weight, const InputFile& file, std::int64_t first,
                 std::int64_t count, std::byte* target) {
  const RowRange& rows = weight.rows;
  while (count > 0) {
    const std::int64_t in_piece = std::min(count, rows.piece - first % rows.piece);
    const std::int64_t stored = rows.first + first / rows.piece * rows.step + first % rows.piece;
    if (weight.transposed) {
      gather_columns(weight, file, stored, in_piece, target);
    } else {
      widen_rows(*weight.record, file, stored, in_piece, target);
    }
    target += static_cast<std::size_t>(in_piece) * weight.row_bytes;
    first += in_piece;
    count -= in_piece;
  }
}

bool same_content(const Checkpoint& checkpoint, const TensorRecord& a, const TensorRecord& b) {
  if (a.dtype != b.dtype || a.blocks != b.blocks || a.shape != b.shape || a.bytes != b.bytes) {
    return false;
  }
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
