// PyTorch's zip files: <root>/data.pkl describes tensors over storages, <root>/data/<key> are those
// storages, byte by byte. Source: torch/serialization.py (_save, _load), caffe2/serialize.
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/device/error.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/checkpoint/input_file.h"
#include "offload/checkpoint/pickle_reader.h"
#include "offload/checkpoint/zip_directory.h"

namespace sluice::offload {

namespace {

constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19",
                                        14);  // torch.save before 1.6

void refuse_other_formats(const InputFile& input) {
  const std::string start = input.read(0, std::min<std::uint64_t>(input.bytes(), 64));
  if (start.starts_with(kLegacyMagic)) {
    throw InputError(fmt::format(
        "{0} is in PyTorch's format of before 1.6, which is not read; convert it with: python3 -c "
        "\"import torch; torch.save(torch.load('{0}', map_location='cpu'), '{0}')\"",
        input.name()));
  }
}

class Archive {
 public:
  explicit Archive(const InputFile& input) : input_(input), members_(read_zip_directory(input)) {
    constexpr std::string_view kPickle = "/data.pkl";
    for (const ZipMember& member : members_) {
      const bool in_root = member.name.find('/') == member.name.size() - kPickle.size();
      if (!member.name.ends_with(kPickle) || !in_root) continue;
      if (!root_.empty()) fail("has more than one data.pkl");
      root_ = member.name.substr(0, member.name.size() - kPickle.size() + 1);
    }
    if (root_.empty()) fail("has no data.pkl: it was not written by torch.save");
    if (find("version") == nullptr) fail("has no version member: it was not written by torch.save");
    if (const ZipMember* order = find("byteorder"); order != nullptr) {
      if (order->bytes != 6 || text(*order) != "little") fail("was written with big-endian bytes");
    }
  }

  /// A member by its name below the root; null: absent.
  const ZipMember* find(const std::string& name) const {
    const std::string full = root_ + name;
    const auto at = std::ranges::lower_bound(members_, full, {}, &ZipMember::name);
    return at != members_.end() && at->name == full ? &*at : nullptr;
  }
  std::string pickle() const {
    const ZipMember& member = *find("data.pkl");
    if (member.bytes > kMaxPickleBytes) fail("has a data.pkl larger than any model's");
    return text(member);
  }

 private:
  std::string text(const ZipMember& member) const {
    return input_.read(member.offset, member.bytes);
  }
  [[noreturn]] void fail(const char* what) const {
    throw InputError(fmt::format(
        "{} {}; fetch the file again, or use the model's safetensors files", input_.name(), what));
  }

  const InputFile& input_;
  std::vector<ZipMember> members_;
  std::string root_;  // with its '/'
};

[[noreturn]] void refuse(const InputFile& input, const PickledTensor& tensor,
                         const std::string& what) {
  throw InputError(fmt::format("{}: tensor \"{}\" {}", input.name(), printable(tensor.name), what));
}

std::uint64_t elements_of(const InputFile& input, const PickledTensor& tensor) {
  std::uint64_t elements = 1;
  for (const std::int64_t extent : tensor.shape) {
    if (__builtin_mul_overflow(elements, static_cast<std::uint64_t>(extent), &elements)) {
      refuse(input, tensor, "has a shape beyond all sizes; fetch the file again");
    }
  }
  return elements;
}

// Row after row, without gaps; strides of dimensions of one element mean nothing.
bool is_dense(const PickledTensor& tensor, std::uint64_t elements) {
  if (elements == 0) return true;
  std::uint64_t expected = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && static_cast<std::uint64_t>(tensor.strides[i]) != expected) {
      return false;
    }
    expected *= static_cast<std::uint64_t>(tensor.shape[i]);
  }
  return true;
}

TensorRecord checked_record(const InputFile& input, const Archive& archive,
                            const PickledTensor& tensor) {
  const PickledStorage& storage = tensor.storage;
  const ZipMember* member = archive.find("data/" + storage.key);
  if (member == nullptr) {
    refuse(input, tensor,
           fmt::format("lies in the storage \"{}\", which the archive lacks; fetch "
                       "the file again",
                       printable(storage.key)));
  }
  if (storage.elements > member->bytes / storage.element_bytes) {
    refuse(input, tensor,
           fmt::format("lies in a storage of {} elements of {} bytes, but member "
                       "data/{} at offset {} has {} bytes; fetch the file again",
                       storage.elements, storage.element_bytes, printable(storage.key),
                       member->offset, member->bytes));
  }
  TensorRecord record;
  record.name = tensor.name;
  record.shape = tensor.shape;
  record.dtype = storage.dtype.value_or(DType::f32);
  if (!storage.dtype) {
    record.problem = fmt::format(
        "is made of a torch.{}; convert it to float32, float16 or bfloat16", storage.type);
  }
  const std::uint64_t elements = elements_of(input, tensor);
  if (!is_dense(tensor, elements)) {
    record.problem = fmt::format(
        "of shape [{}] has the strides [{}], which are not those of dense rows; save "
        "it again after .contiguous()",
        fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "));
    return record;  // its bytes are no extent
  }
  if (tensor.offset > storage.elements || elements > storage.elements - tensor.offset) {
    refuse(input, tensor,
           fmt::format("takes {} elements at {} of a storage of {}; fetch the file "
                       "again",
                       elements, tensor.offset, storage.elements));
  }
  record.offset = member->offset + tensor.offset * storage.element_bytes;
  record.bytes = elements * storage.element_bytes;
  return record;
}

}  // namespace

std::vector<TensorRecord> read_torch_zip(const std::filesystem::path& path, std::int32_t file) {
  const InputFile input(path);
  refuse_other_formats(input);
  const Archive archive(input);
  const std::string pickle = archive.pickle();
  std::vector<TensorRecord> records;
  for (const PickledTensor& tensor : read_state_dict(pickle, input.name())) {
    TensorRecord record = checked_record(input, archive, tensor);
    record.file = file;
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace sluice::offload
