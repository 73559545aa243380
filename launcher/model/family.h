// A model family: what its config.json means, and what its checkpoints call the tensors. A family
// is one page in families/; nothing else in sluice knows it. To add one, write its page and put it
// into families().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/model/config_reader.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/weights/stored_weights.h"
#include "stage/decoder_config.h"

namespace sluice::launcher {

/// A page's answer to "where is which tensor?". Names are given without ".weight" and ".bias":
/// both of a tensor are stored alike. '*' stands for the layer's number, in both names, and '#' for
/// an expert's.
class TensorNames {
 public:
  /// What may stand before the stored names; the first is said of a tensor that is not there.
  explicit TensorNames(std::vector<std::string> prefixes) : prefixes_(std::move(prefixes)) {}

  struct Entry {
    std::string ours;
    std::string stored;
    offload::RowRange rows;
    bool transposed = false;
    bool exact = false;  // the names are whole: nothing is put behind them
    /// Of an expert's: the rows move by so many from each expert to the next; of a transposed
    /// matrix the inputs do, of which it has so many.
    std::int64_t expert_rows = 0;
  };

  /// Our `ours` ("layers.*.mlp.up", as in stage/weight_groups.cc) is `stored`, or `rows` of it. Of
  /// a bias they are elements. Of two entries for one name the later counts.
  TensorNames& add(std::string ours, std::string stored, offload::RowRange rows = {}) {
    entries_.push_back({std::move(ours), std::move(stored), rows});
    return *this;
  }
  /// A matrix that is stored as [inputs, outputs]: `rows` counts outputs.
  TensorNames& add_transposed(std::string ours, std::string stored, offload::RowRange rows = {}) {
    entries_.push_back({std::move(ours), std::move(stored), rows, true});
    return *this;
  }
  /// Rows of one tensor that has those of all experts, `step` rows of each: the first's are `rows`.
  TensorNames& add_expert_rows(std::string ours, std::string stored, offload::RowRange rows,
                               std::int64_t step) {
    entries_.push_back({std::move(ours), std::move(stored), rows, false, true, step});
    return *this;
  }
  /// The same where each expert's matrix is stored as [inputs, outputs].
  TensorNames& add_expert_columns(std::string ours, std::string stored, std::int64_t inputs) {
    entries_.push_back({std::move(ours), std::move(stored), {}, true, true, inputs});
    return *this;
  }
  /// One tensor whose stored name ends in another way than ours.
  TensorNames& add_exactly(std::string ours, std::string stored) {
    entries_.push_back({std::move(ours), std::move(stored), {}, false, true});
    return *this;
  }

  const std::vector<std::string>& prefixes() const { return prefixes_; }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<std::string> prefixes_;
  std::vector<Entry> entries_;
};

struct Family {
  const char* model_type = "";  // in config.json
  const char* title = "";       // for people
  /// All but `bos`, `eos` and `pad` may be left at values that cannot be: they are checked
  /// afterwards. Throws InputError, by ConfigReader::fail(), for keys that cannot be run.
  stage::DecoderConfig (*read_config)(const ConfigReader& config) = nullptr;
  TensorNames (*name_tensors)(const stage::DecoderConfig& model) = nullptr;
};

using Families = std::vector<const Family*>;

/// All that run.
const Families& families();

/// The family of a config.json, by its model_type. Throws InputError with the list of those that
/// run.
const Family& family_of(const ConfigReader& config, const Families& known);

/// Where the checkpoint stores the model's tensors. What is stored counts over what config.json
/// says of the head: one of its own is used, unless it is a copy of the token table, and of a table
/// and a head that are one either name will do. Sets model.head.tied. Throws InputError for two
/// tensors of one name, and for a head of its own that is not there.
offload::StoredNames find_tensors(const Family& family, const offload::Checkpoint& checkpoint,
                                  stage::DecoderConfig& model);

}  // namespace sluice::launcher
