// Sources: the opcode descriptions in CPython's Lib/pickletools.py; torch/_utils.py
// (_rebuild_tensor_v2, _rebuild_parameter) and torch/serialization.py (persistent_id).
#include "offload/checkpoint/pickle_reader.h"

#include <algorithm>
#include <array>
#include <deque>
#include <unordered_set>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/checkpoint/input_file.h"
#include "offload/checkpoint/pickle_bytes.h"

namespace sluice::offload {

namespace {

// A real model of 100 layers needs about 30 thousand opcodes.
constexpr std::size_t kMaxOpcodes = 500'000;
constexpr std::size_t kMaxMemo = 500'000;
constexpr std::size_t kMaxString = 4096;
constexpr std::size_t kMaxKey = 64;  // of a storage: a short number
constexpr std::size_t kMaxNesting = 64;
constexpr std::size_t kMaxDimensions = 8;

struct StorageType {
  std::string_view name;
  std::uint64_t bytes;
  std::optional<DType> dtype;
};
constexpr std::array kStorageTypes = {
    StorageType{"FloatStorage", 4, DType::f32},     StorageType{"HalfStorage", 2, DType::f16},
    StorageType{"BFloat16Storage", 2, DType::bf16}, StorageType{"DoubleStorage", 8, std::nullopt},
    StorageType{"LongStorage", 8, std::nullopt},    StorageType{"IntStorage", 4, std::nullopt},
    StorageType{"ShortStorage", 2, std::nullopt},   StorageType{"CharStorage", 1, std::nullopt},
    StorageType{"ByteStorage", 1, std::nullopt},    StorageType{"BoolStorage", 1, std::nullopt},
};

enum class Callable : std::uint8_t { ordered_dict, rebuild_tensor, rebuild_parameter };

// Values refer to each other by index, never by pointer: a cycle costs nothing and frees itself.
using ValueId = std::uint32_t;
struct Opaque {};  // None, floats: nothing that a tensor is made of
struct Tuple {
  std::vector<ValueId> items;
};
struct Container {  // a list (keys unused) or a dictionary
  bool dictionary = false;
  std::vector<ValueId> keys;
  std::vector<ValueId> values;
};
using Value = std::variant<Opaque, bool, std::int64_t, std::string, Tuple, Container, Callable,
                           const StorageType*, PickledStorage, PickledTensor>;

class Machine {
 public:
  Machine(std::string_view pickle, const std::string& where) : bytes_(pickle, where) {}

  std::vector<PickledTensor> run() {
    if (bytes_.size() > kMaxPickleBytes) fail("is longer than any model's");
    if (bytes_.next_opcode() != Opcode::proto || bytes_.next_byte() != 2) {
      fail("is not of protocol 2, which torch.save writes");
    }
    for (std::size_t count = 0; count < kMaxOpcodes; ++count) {
      const Opcode opcode = bytes_.next_opcode();
      if (opcode == Opcode::stop) return state_dict(pop());
      if (!push_plain(opcode) && !use_memo(opcode) && !build_container(opcode) &&
          !build_object(opcode)) {
        fail(fmt::format("has the opcode 0x{:02x}, which no state dict needs",
                         static_cast<unsigned>(opcode)));
      }
    }
    fail("has more opcodes than any model's");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { bytes_.fail(what); }

  // --- the stack ---------------------------------------------------------------------------------

  // Every opcode pushes at most one value, so kMaxOpcodes bounds stack and values alike.
  void push(Value value) {
    values_.push_back(std::move(value));
    stack_.push_back(static_cast<ValueId>(values_.size() - 1));
  }
  ValueId pop() {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) fail("takes a value from an empty stack");
    const ValueId id = stack_.back();
    stack_.pop_back();
    return id;
  }
  ValueId top() {
    const ValueId id = pop();
    stack_.push_back(id);
    return id;
  }
  std::vector<ValueId> pop_many(std::size_t count) {
    std::vector<ValueId> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }
  std::vector<ValueId> pop_to_mark() {
    if (marks_.empty()) fail("closes a group that was not opened");
    std::vector<ValueId> items = pop_many(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }
  template <typename T>
  T& as(ValueId id, const char* wanted) {
    T* value = std::get_if<T>(&values_[id]);
    if (value == nullptr) fail(fmt::format("has another value where {} belongs", wanted));
    return *value;
  }

  // --- opcodes, by family; each returns false for one that is not its own ---

  bool push_plain(Opcode opcode) {
    switch (opcode) {
      case Opcode::none:
        push(Opaque{});
        return true;
      case Opcode::newtrue:
        push(true);
        return true;
      case Opcode::newfalse:
        push(false);
        return true;
      case Opcode::binint1:
        push(static_cast<std::int64_t>(bytes_.next_unsigned(1)));
        return true;
      case Opcode::binint2:
        push(static_cast<std::int64_t>(bytes_.next_unsigned(2)));
        return true;
      case Opcode::binint:
        push(static_cast<std::int64_t>(static_cast<std::int32_t>(bytes_.next_unsigned(4))));
        return true;
      case Opcode::binfloat:
        bytes_.skip(8);
        push(Opaque{});
        return true;
      case Opcode::long1:
        push(bytes_.next_long());
        return true;
      case Opcode::binunicode:
        push(bytes_.next_text(kMaxString));
        return true;
      default:
        return false;
    }
  }

  bool use_memo(Opcode opcode) {
    switch (opcode) {
      case Opcode::binput:
        put(bytes_.next_unsigned(1));
        return true;
      case Opcode::long_binput:
        put(bytes_.next_unsigned(4));
        return true;
      case Opcode::binget:
        get(bytes_.next_unsigned(1));
        return true;
      case Opcode::long_binget:
        get(bytes_.next_unsigned(4));
        return true;
      default:
        return false;
    }
  }
  void put(std::uint64_t index) {
    if (index >= kMaxMemo) fail("remembers more values than any model has");
    if (index >= memo_.size()) memo_.resize(index + 1, kNoValue);
    memo_[index] = top();
  }
  void get(std::uint64_t index) {
    if (index >= memo_.size() || memo_[index] == kNoValue) fail("recalls a value it never had");
    stack_.push_back(memo_[index]);
  }

  bool build_container(Opcode opcode) {
    switch (opcode) {
      case Opcode::mark:
        if (marks_.size() >= kMaxNesting) fail("is nested too deeply");
        marks_.push_back(stack_.size());
        return true;
      case Opcode::empty_tuple:
        push(Tuple{});
        return true;
      case Opcode::tuple1:
        push(Tuple{pop_many(1)});
        return true;
      case Opcode::tuple2:
        push(Tuple{pop_many(2)});
        return true;
      case Opcode::tuple3:
        push(Tuple{pop_many(3)});
        return true;
      case Opcode::tuple:
        push(Tuple{pop_to_mark()});
        return true;
      case Opcode::empty_dict:
        push(Container{true, {}, {}});
        return true;
      case Opcode::empty_list:
        push(Container{false, {}, {}});
        return true;
      case Opcode::append:
        append(pop_many(1));
        return true;
      case Opcode::appends:
        append(pop_to_mark());
        return true;
      case Opcode::setitem:
        set_items(pop_many(2));
        return true;
      case Opcode::setitems:
        set_items(pop_to_mark());
        return true;
      default:
        return false;
    }
  }
  void append(const std::vector<ValueId>& items) {
    Container& list = as<Container>(top(), "a list");
    if (list.dictionary) fail("appends to a dictionary");
    list.values.insert(list.values.end(), items.begin(), items.end());
  }
  void set_items(const std::vector<ValueId>& items) {
    Container& dictionary = as<Container>(top(), "a dictionary");
    if (!dictionary.dictionary || items.size() % 2 != 0) fail("sets items of no dictionary");
    for (std::size_t i = 0; i < items.size(); i += 2) {
      dictionary.keys.push_back(items[i]);
      dictionary.values.push_back(items[i + 1]);
    }
  }

  bool build_object(Opcode opcode) {
    switch (opcode) {
      case Opcode::global:
        push_global();
        return true;
      case Opcode::binpersid:
        push(storage(as<Tuple>(pop(), "a storage's tuple")));
        return true;
      case Opcode::reduce:
        call();
        return true;
      case Opcode::build: {
        // Attributes of a state dict (its _metadata): plain values, of no use here.
        const Container& state = as<Container>(pop(), "a dictionary of attributes");
        const Container& object = as<Container>(top(), "a dictionary");
        if (!state.dictionary || !object.dictionary) fail("sets the state of no dictionary");
        return true;
      }
      default:
        return false;
    }
  }

  void push_global() {
    const std::string module = bytes_.next_line(kMaxString);
    const std::string name = bytes_.next_line(kMaxString);
    if (module == "collections" && name == "OrderedDict") return push(Callable::ordered_dict);
    if (module == "torch._utils" && name == "_rebuild_tensor_v2") {
      return push(Callable::rebuild_tensor);
    }
    if (module == "torch._utils" && name == "_rebuild_parameter") {
      return push(Callable::rebuild_parameter);
    }
    if (module == "torch") {
      const auto* type =
          std::ranges::find(kStorageTypes, std::string_view(name), &StorageType::name);
      if (type != kStorageTypes.end()) return push(type);
    }
    fail(
        fmt::format("wants '{}.{}', which is not on the list of what a state dict may use; it is "
                    "refused and nothing of it was executed",
                    printable(module), printable(name)));
  }

  // ('storage', torch.HalfStorage, key, location, elements)
  PickledStorage storage(const Tuple& id) {
    if (id.items.size() != 5 || as<std::string>(id.items[0], "'storage'") != "storage") {
      fail("has a persistent id that is no storage");
    }
    const StorageType* type = as<const StorageType*>(id.items[1], "a torch storage type");
    as<std::string>(id.items[3], "a storage's location");
    const std::int64_t elements = as<std::int64_t>(id.items[4], "a storage's size");
    const std::string& key = as<std::string>(id.items[2], "a storage's key");
    if (elements < 0 || key.size() > kMaxKey) fail("has a storage of impossible size or key");
    return {type->name, type->dtype, type->bytes, key, static_cast<std::uint64_t>(elements)};
  }

  void call() {
    const std::vector<ValueId> arguments = as<Tuple>(pop(), "a tuple of arguments").items;
    switch (as<Callable>(pop(), "a function of the list")) {
      case Callable::ordered_dict:
        if (!arguments.empty()) fail("makes an OrderedDict with arguments");
        return push(Container{true, {}, {}});
      case Callable::rebuild_tensor:
        return push(tensor(arguments));
      case Callable::rebuild_parameter:  // (tensor, requires_grad, hooks)
        if (arguments.size() != 3) fail("makes a parameter of other than 3 arguments");
        check_hooks(arguments[2]);
        return push(PickledTensor(as<PickledTensor>(arguments[0], "a tensor")));
    }
  }

  // (storage, offset, shape, strides, requires_grad, hooks[, None])
  PickledTensor tensor(const std::vector<ValueId>& arguments) {
    if (arguments.size() < 6 || arguments.size() > 7) fail("makes a tensor of too few arguments");
    PickledTensor result;
    result.storage = as<PickledStorage>(arguments[0], "a storage");
    const std::int64_t offset = as<std::int64_t>(arguments[1], "a storage offset");
    result.shape = extents(arguments[2]);
    result.strides = extents(arguments[3]);
    as<bool>(arguments[4], "requires_grad");
    check_hooks(arguments[5]);
    if (arguments.size() == 7) as<Opaque>(arguments[6], "None");
    if (offset < 0 || result.shape.size() != result.strides.size()) {
      fail("has a tensor whose offset, shape and strides do not go together");
    }
    result.offset = static_cast<std::uint64_t>(offset);
    return result;
  }
  std::vector<std::int64_t> extents(ValueId id) {
    const Tuple& tuple = as<Tuple>(id, "a tuple of sizes");
    if (tuple.items.size() > kMaxDimensions) fail("has a tensor of too many dimensions");
    std::vector<std::int64_t> result;
    for (const ValueId item : tuple.items) {
      result.push_back(as<std::int64_t>(item, "a size"));
      if (result.back() < 0) fail("has a negative size");
    }
    return result;
  }
  void check_hooks(ValueId id) {
    const Container& hooks = as<Container>(id, "a dictionary of hooks");
    if (!hooks.dictionary || !hooks.keys.empty())
      fail("has hooks, which would have to be executed");
  }

  // --- the result --------------------------------------------------------------------------------

  std::vector<PickledTensor> state_dict(ValueId id) {
    const Container& root = as<Container>(id, "the dictionary of tensors");
    if (!root.dictionary) fail("holds a list, not a dictionary of tensors");
    std::vector<PickledTensor> tensors;
    std::unordered_set<std::string> names;
    for (std::size_t i = 0; i < root.keys.size(); ++i) {
      const std::string& name = as<std::string>(root.keys[i], "a tensor's name");
      if (!names.insert(name).second) {
        fail(fmt::format("has the tensor \"{}\" twice", printable(name)));
      }
      if (const auto* tensor = std::get_if<PickledTensor>(&values_[root.values[i]])) {
        tensors.push_back(*tensor);
        tensors.back().name = name;
      }
    }
    return tensors;
  }

  static constexpr ValueId kNoValue = UINT32_MAX;
  PickleBytes bytes_;
  std::deque<Value> values_;  // a deque: references stay valid while values are pushed
  std::vector<ValueId> stack_;
  std::vector<std::size_t> marks_;  // stack heights
  std::vector<ValueId> memo_;
};

}  // namespace

std::vector<PickledTensor> read_state_dict(std::string_view pickle, const std::string& where) {
  return Machine(pickle, where).run();
}

}  // namespace sluice::offload
