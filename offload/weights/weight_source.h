// Where weights come from: a checkpoint's own extents, or made-up values of the same shapes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/device/dtype.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/disk/disk_engine.h"
#include "offload/weights/stored_weights.h"
#include "offload/weights/weight_spec.h"

namespace sluice::offload {

/// A tensor as a matrix [rows, columns]; a vector is [1, n]. `key` is the source's own.
struct WeightInfo {
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int32_t key = -1;
  /// What stays on disk is written there by keep_on_disk() and counts against the disk's budget.
  bool written_by_run = false;
  /// The checkpoint has no row as it is wanted. read() makes whole rows, of columns or of quantised
  /// blocks, before it returns, and extent() has none. Such weights are packed once, not streamed.
  bool relaid = false;
};

/// Bytes of a tensor as they lie in a file, for reads that bring more than one tensor's.
struct WeightExtent {
  DiskEngine* disk = nullptr;  // null: they do not lie in one piece, and read() alone has them
  FileId file = -1;
  std::uint64_t offset = 0;
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// Belongs to planning: no read() beside it. Throws InputError if there is no such weight, or if
  /// it has another shape; names both shapes.
  virtual WeightInfo find(const WeightSpec& spec) = 0;

  /// Puts bytes [offset, offset + bytes) of the tensor into `target`; done when `group` is.
  virtual void read(const WeightInfo& tensor, std::uint64_t offset, std::size_t bytes, void* target,
                    IoGroup& group) = 0;
  /// Where [offset, offset + bytes) of the tensor lies, for ever from now on.
  virtual WeightExtent extent(const WeightInfo& /*tensor*/, std::uint64_t /*offset*/,
                              std::size_t /*bytes*/) {
    return {};
  }

  /// Called once, before anything is loaded, with the bytes of all ranges that keep_on_disk() will
  /// be called with, each in whole blocks, where they are written by the run. Throws CapacityError.
  virtual void reserve_disk(std::uint64_t /*bytes*/) {}
  /// Called once at load for each range that the policy leaves on disk, before any read() of it
  /// that follows load. Checkpoints have it there already.
  virtual void keep_on_disk(const WeightInfo& tensor, std::uint64_t offset, std::size_t bytes) = 0;
};

/// Reads the checkpoint's files through `disk`. Both must outlive it. Weights that are the same
/// rows have the same key.
std::unique_ptr<WeightSource> make_checkpoint_source(const Checkpoint& checkpoint,
                                                     StoredNames names, DiskEngine& disk);

/// `--weights dummy`: any name and shape exists, of `dtype`; values are a pure function of (name,
/// element), small and centred so that logits stay finite (WeightUse::scale: 1), alike in every
/// dtype. Ranges kept on disk are written to one file in `folder`, made by reserve_disk(). find()
/// and keep_on_disk() belong to loading: one thread, no read() beside them. With `compression`
/// matrices are quantised: made-up rows, packed once for each width, and nothing is kept for later
/// runs.
std::unique_ptr<WeightSource> make_dummy_source(DType dtype, DiskEngine& disk,
                                                std::filesystem::path folder,
                                                Compression compression = Compression::none);

}  // namespace sluice::offload
