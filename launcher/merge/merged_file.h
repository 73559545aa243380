// A file of records that is there whole or not at all.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "launcher/jobs/coding.h"

namespace sluice::launcher {

/// Writes beside `name`, which commit() replaces. Without commit() nothing stays. All throw IoError
/// or CapacityError.
class MergedFile {
 public:
  explicit MergedFile(std::string name);
  ~MergedFile();
  MergedFile(const MergedFile&) = delete;
  MergedFile& operator=(const MergedFile&) = delete;

  void add(std::string_view record);
  /// Outlasts a power cut.
  void commit();

 private:
  void write();
  [[noreturn]] void fail(const char* call) const;

  std::string name_;
  std::string fresh_;  // the name until commit()
  int descriptor_ = -1;
  std::unique_ptr<Packer> packer_;
  std::string waiting_;  // bytes to be written
};

}  // namespace sluice::launcher
