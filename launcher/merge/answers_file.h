// An output of `sluice generate` that is read at any place.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::launcher {

/// Move-only owner of the open file.
class AnswersFile {
 public:
  /// Unpacks a coded file into `scratch`, a folder, where no name is left of it. Throws InputError
  /// where it is not there or damaged, ConfigError where a run is writing to it.
  AnswersFile(const std::string& name, const std::string& scratch);
  ~AnswersFile();
  AnswersFile(AnswersFile&& other) noexcept;
  AnswersFile& operator=(AnswersFile&&) = delete;

  const std::string& name() const { return name_; }

  using OnRecord =
      std::function<void(std::string_view record, std::uint64_t offset, std::int64_t line)>;
  /// All whole lines, in their order. Returns whether the file ends with one.
  bool read(const OnRecord& on_record) const;

  /// The line that begins at `offset`, without its end. It is there until the next call.
  std::string_view record_at(std::uint64_t offset);

 private:
  void unpack(const std::string& scratch);
  void load(std::uint64_t offset);

  std::string name_;
  int descriptor_ = -1;
  std::vector<char> window_;  // bytes of the file from window_offset_ on
  std::uint64_t window_offset_ = 0;
};

}  // namespace sluice::launcher
