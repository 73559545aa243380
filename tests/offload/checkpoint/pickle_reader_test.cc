#include "offload/checkpoint/pickle_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/torch_archive.h"

namespace sluice::offload {
namespace {

using support::little;
using support::pickled_dict;
using support::pickled_global;
using support::pickled_integer;
using support::pickled_text;
using support::TensorText;
using testing::HasSubstr;

const std::string kProto = "\x80\x02";
const std::string kOrdered = pickled_global("collections", "OrderedDict") + ")R";

std::vector<PickledTensor> read(const std::string& pickle) {
  return read_state_dict(pickle, "x.bin");
}
std::string refusal(const std::string& pickle) {
  return support::refusal([&] { read(pickle); });
}

TEST(PickleReaderTest, ATensorIsAPlaceInAStorage) {
  const auto tensors = read(pickled_dict({{"w", TensorText{.type = "HalfStorage",
                                                           .key = "12",
                                                           .elements = 50,
                                                           .offset = 4,
                                                           .shape = {5, 2},
                                                           .strides = {2, 1}}
                                                    .pickled()}}));
  ASSERT_EQ(tensors.size(), 1U);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].storage.type, "HalfStorage");
  EXPECT_EQ(tensors[0].storage.dtype, DType::f16);
  EXPECT_EQ(tensors[0].storage.element_bytes, 2U);
  EXPECT_EQ(tensors[0].storage.key, "12");
  EXPECT_EQ(tensors[0].storage.elements, 50U);
  EXPECT_EQ(tensors[0].offset, 4U);
  EXPECT_EQ(tensors[0].shape, (std::vector<std::int64_t>{5, 2}));
  EXPECT_EQ(tensors[0].strides, (std::vector<std::int64_t>{2, 1}));
}

TEST(PickleReaderTest, ParametersAreTheirTensors) {
  const std::string parameter = pickled_global("torch._utils", "_rebuild_parameter") + "(" +
                                TensorText{}.pickled() + "\x88" + kOrdered + "tR";
  const auto tensors = read(pickled_dict({{"w", parameter}}));
  ASSERT_EQ(tensors.size(), 1U);
  EXPECT_EQ(tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
}

TEST(PickleReaderTest, AttributesAndPlainEntriesAreLeftOut) {
  const std::string metadata = "}" + pickled_text("_metadata") + kOrdered + "(" + pickled_text("") +
                               "}" + pickled_text("version") + "K\x01" + "sus";
  const std::string dict = kProto + kOrdered + "(" + pickled_text("step") + pickled_integer(-3) +
                           pickled_text("rate") + "G" + little(0, 8) + pickled_text("w") +
                           TensorText{}.pickled() + "u" + metadata + "b.";
  const auto tensors = read(dict);
  ASSERT_EQ(tensors.size(), 1U);
  EXPECT_EQ(tensors[0].name, "w");
}

TEST(PickleReaderTest, NothingOutsideTheListIsBuilt) {
  const auto wants = [](const std::string& module, const std::string& name) {
    return refusal(kProto + pickled_global(module, name) + "(" + pickled_text("id") + "tR.");
  };
  EXPECT_THAT(wants("os", "system"), HasSubstr("wants 'os.system'"));
  EXPECT_THAT(wants("posix", "system"), HasSubstr("'posix.system'"));
  EXPECT_THAT(wants("__builtin__", "eval"), HasSubstr("'__builtin__.eval'"));
  EXPECT_THAT(wants("torch", "load"), HasSubstr("'torch.load'"));
  EXPECT_THAT(wants("torch._utils", "_rebuild_tensor_v3"), HasSubstr("_rebuild_tensor_v3"));
  EXPECT_THAT(wants("collections", "OrderedDict.x"), HasSubstr("OrderedDict.x"));
  EXPECT_THAT(wants("os\x1b[2J", "system"), HasSubstr("os?[2J"));
}

TEST(PickleReaderTest, OpcodesThatNoStateDictNeedsAreRefused) {
  // INST, OBJ, NEWOBJ, EXT1, STACK_GLOBAL, FRAME, MEMOIZE, POP, DUP, INT, STRING, PERSID, BINBYTES
  for (const char opcode : std::string("io\x81\x82\x93\x95\x94"
                                       "02ISPB\0\xff",
                                       15)) {
    EXPECT_THAT(refusal(kProto + "}" + opcode + "."), HasSubstr("which no state dict needs"));
  }
}

struct BadPickle {
  const char* name;
  std::string pickle;
  const char* says;
};
class BadPickleTest : public testing::TestWithParam<BadPickle> {};

TEST_P(BadPickleTest, IsRefusedNamingTheFile) {
  const std::string sentence = refusal(GetParam().pickle);
  EXPECT_THAT(sentence, HasSubstr("x.bin: the pickle"));
  EXPECT_THAT(sentence, HasSubstr(GetParam().says));
}

std::string with(const TensorText& tensor) { return pickled_dict({{"w", tensor.pickled()}}); }
std::string repeated(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

INSTANTIATE_TEST_SUITE_P(
    Hostile, BadPickleTest,
    testing::Values(
        BadPickle{"empty", "", "ends too early"}, BadPickle{"no_proto", "}.", "protocol 2"},
        BadPickle{"protocol_4", "\x80\x04}.", "protocol 2"},
        BadPickle{"no_stop", kProto + "}", "ends too early"},
        BadPickle{"empty_stack", kProto + ".", "empty stack"},
        BadPickle{"text_too_short", kProto + "X" + little(9, 4) + "abc", "ends too early"},
        BadPickle{"text_too_long", kProto + pickled_text(std::string(5000, 'a')),
                  "longer than any"},
        BadPickle{"text_4_gib", kProto + "X\xff\xff\xff\xff", "longer than any"},
        BadPickle{"integer_too_wide", kProto + "\x8a\x09" + little(0, 8) + "a", "beyond 64 bits"},
        BadPickle{"global_without_end", kProto + "ctorch", "name without an end"},
        BadPickle{"unknown_memo", kProto + "h\x07.", "never had"},
        BadPickle{"memo_too_far", kProto + "}r\xff\xff\xff\xff.", "remembers more"},
        BadPickle{"memo_of_nothing", kProto + "q\x01.", "empty stack"},
        BadPickle{"group_not_opened", kProto + "t.", "not opened"},
        BadPickle{"pop_through_mark", kProto + "}}(s.", "empty stack"},
        BadPickle{"nested_too_deeply", kProto + std::string(65, '('), "nested too deeply"},
        BadPickle{"too_many_opcodes", kProto + repeated("N", 600'000), "more opcodes"},
        BadPickle{"too_long", kProto + std::string(9U << 20U, 'N'), "longer than any"},
        BadPickle{"odd_items", kProto + "}(" + pickled_text("w") + "u.", "no dictionary"},
        BadPickle{"items_of_a_list", kProto + "](NNu.", "no dictionary"},
        BadPickle{"append_to_dict", kProto + "}Na.", "a dictionary"},
        BadPickle{"root_is_list", kProto + "].", "not a dictionary"},
        BadPickle{"root_is_text", kProto + pickled_text("w") + ".", "dictionary of tensors"},
        BadPickle{"name_is_number", kProto + "}(NNu.", "a tensor's name"},
        BadPickle{"name_twice", pickled_dict({{"w", TensorText{}.pickled()}, {"w", "N"}}), "twice"},
        BadPickle{"call_of_text", kProto + pickled_text("os.system") + ")R.",
                  "function of the list"},
        BadPickle{"call_of_storage", kProto + pickled_global("torch", "HalfStorage") + ")R.",
                  "function of the list"},
        BadPickle{"state_of_text", kProto + pickled_text("a") + "}b.", "a dictionary"},
        BadPickle{"state_is_tuple", kProto + "})b.", "dictionary of attributes"},
        BadPickle{"dict_of_arguments",
                  kProto + pickled_global("collections", "OrderedDict") + "(]tR.",
                  "with arguments"},
        BadPickle{"storage_type_unknown", with({.type = "EvilStorage"}), "'torch.EvilStorage'"},
        BadPickle{"storage_negative", with({.elements = -1}), "impossible size"},
        BadPickle{"storage_key_long", with({.key = std::string(65, '1')}),
                  "impossible size or key"},
        BadPickle{"persistent_id_text", kProto + pickled_text("a") + "Q.", "storage's tuple"},
        BadPickle{"persistent_id_short", kProto + "(" + pickled_text("storage") + "tQ.",
                  "no storage"},
        BadPickle{"offset_negative", with({.offset = -4}), "do not go together"},
        BadPickle{"shape_negative", with({.shape = {-2, 3}}), "negative size"},
        BadPickle{"stride_negative", with({.strides = {3, -1}}), "negative size"},
        BadPickle{"strides_too_few", with({.strides = {1}}), "do not go together"},
        BadPickle{"too_many_dimensions",
                  with({.shape = std::vector<std::int64_t>(9, 1),
                        .strides = std::vector<std::int64_t>(9, 1)}),
                  "too many dimensions"},
        BadPickle{"hooks_there", with({.hooks = kOrdered + "(NNu"}), "hooks"},
        BadPickle{"hooks_none", with({.hooks = "N"}), "dictionary of hooks"}),
    [](const auto& test) { return test.param.name; });

TEST(PickleReaderTest, CyclesAndSharedTuplesCostNothing) {
  // A dictionary in itself, and a tuple doubled 1000 times: 2^1000 leaves if anyone walked them.
  std::string bomb =
      kProto + "}q\x01" + pickled_text("self") + "h\x01s" + pickled_text("bomb") + "N";
  for (int i = 0; i < 1000; ++i) bomb += "q\x02h\x02\x86";
  EXPECT_TRUE(read(bomb + "s.").empty());
}

}  // namespace
}  // namespace sluice::offload
