// A checkpoint with quantised matrices, or with matrices that it stores by columns or in blocks of
// llama.cpp. They are packed once, into one file per decoder layer (so that every split into stages
// finds them again), and read from there by this run and later ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "offload/checkpoint/checkpoint.h"
#include "offload/disk/disk_engine.h"
#include "offload/weights/weight_source.h"

namespace sluice::offload {

/// How far packing is, in bytes of what is packed (not of what it becomes).
struct PackingState {
  std::filesystem::path folder;
  std::uint64_t done = 0;
  std::uint64_t total = 0;  // 0: all was found
};

/// find() gives a matrix that is compressed as q8 or q4, whose bytes are those of its packed rows;
/// it touches no packed file. A layer's tensors must be asked for in the same order by every run.
class PackedSource : public WeightSource {
 public:
  /// After the last find() and before the first read(): finds the packed files of all tensors that
  /// find() gave, and packs those that are not there. Any number of processes may do so at once:
  /// each writes files of its own and the last one's stay. `progress` may be empty; it is called
  /// at once, and after each piece. Throws CapacityError where the folder has not the space for
  /// all of them, before the first is written; IoError; InputError where a file of a packed name is
  /// none (cut short, damaged, another's), or where an element cannot be quantised.
  virtual void prepare(const std::function<void(const PackingState&)>& progress) = 0;
};

struct PackedOptions {
  Compression compression;          // none: only relaid weights are packed
  std::filesystem::path directory;  // made if absent; a folder for each model and setting is in it
  int threads = 1;                  // that quantise
};

/// Whether there is anything to pack.
bool needs_packing(const Checkpoint& checkpoint, const StoredNames& names, Compression compression);

/// `dense` is the checkpoint's own source. All must outlive it, and it must outlive the engine's
/// last read. What is read is verified: a flipped bit is an IoError naming file and offset.
std::unique_ptr<PackedSource> make_packed_source(const Checkpoint& checkpoint, StoredNames names,
                                                 WeightSource& dense, DiskEngine& disk,
                                                 PackedOptions options);

/// What tells packed files of one content from those of another: the names, shapes, sizes and times
/// of the checkpoint's files, a sample of every tensor's bytes, and which rows are which weight, in
/// one hash.
std::string packed_origin(const Checkpoint& checkpoint, const StoredNames& names,
                          Compression compression);

}  // namespace sluice::offload
