#include "offload/weights/packed_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "kernels/group_quantize.h"
#include "offload/weights/placement.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/stored_names.h"

namespace sluice::offload {
namespace {

using support::read_file;
using testing::AllOf;
using testing::HasSubstr;

const std::filesystem::path kReference =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "opt-reference";

constexpr Compression kFourBit = Compression::four_bit;
constexpr Compression kEightBit = Compression::eight_bit;

const std::string kPrefix = "model.decoder.";  // of opt-pre's tensors

// Of layer `layer` of opt-pre: some of its tensors, matrices and vectors.
GroupSpec layer_spec(int layer) {
  const std::string prefix = "layers." + std::to_string(layer) + ".";
  return {"layer",
          {{prefix + "self_attn_layer_norm.weight", 1, 64},
           {prefix + "fc1.bias", 1, 256},
           {prefix + "self_attn.q_proj.weight", 64, 64},
           {prefix + "fc1.weight", 256, 64},
           {prefix + "fc2.weight", 64, 256}}};
}

GroupSpec embedding_spec(const Checkpoint& checkpoint) {
  const auto shape = [&](const std::string& name) {
    return checkpoint.find(kPrefix + name)->shape;
  };
  return {"embedding",
          {{"embed_positions.weight", shape("embed_positions.weight")[0], 64, WeightUse::table},
           {"embed_tokens.weight", shape("embed_tokens.weight")[0], 64}}};
}

/// What one run, or one rank of it, has open.
struct Opened {
  explicit Opened(const std::filesystem::path& model, const std::filesystem::path& directory,
                  Compression compression = kFourBit)
      : checkpoint(Checkpoint::open(model)),
        source(make_packed_source(checkpoint, names, *dense, *disk, {compression, directory, 2})) {}

  std::string bytes(WeightSource& from, const WeightInfo& info) {
    std::string data(static_cast<std::size_t>(info.rows) * row_bytes_of(info.dtype, info.columns),
                     '?');
    IoGroup group;
    from.read(info, 0, data.size(), data.data(), group);
    group.wait();
    return data;
  }
  std::string bytes(const WeightSpec& spec) { return bytes(*source, source->find(spec)); }
  /// What the packed form must be, from the checkpoint's own bytes.
  std::string expected(const WeightSpec& spec, DType to) {
    const WeightInfo info = dense->find(spec);
    const std::string plain = bytes(*dense, info);
    if (to == info.dtype) return plain;
    std::string packed(static_cast<std::size_t>(spec.rows) * row_bytes_of(to, spec.columns), '?');
    kernels::quantize_rows(info.dtype, plain.data(), spec.rows, spec.columns, to, packed.data());
    return packed;
  }
  std::vector<GroupPlacement> place(const std::vector<GroupSpec>& layers, const Shares& shares) {
    return place_weights(layers, shares, *source);
  }
  PackingState prepare() {
    PackingState first;
    bool called = false;
    source->prepare([&](const PackingState& state) {
      if (!called) first = state;
      called = true;
      last = state;
    });
    EXPECT_TRUE(called);
    return first;
  }

  Checkpoint checkpoint;
  StoredNames names = support::without_prefix(checkpoint, kPrefix);
  std::unique_ptr<DiskEngine> disk = DiskEngine::make({});
  std::unique_ptr<WeightSource> dense = make_checkpoint_source(checkpoint, names, *disk);
  std::unique_ptr<PackedSource> source;
  PackingState last;
};

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

class PackedSourceTest : public testing::Test {
 protected:
  support::ScratchFolder folder_;
  std::filesystem::path model_ = kReference / "opt-pre";
  std::filesystem::path directory_ = folder_.path() / "made" / "if absent";
};

TEST_F(PackedSourceTest, GivesEveryMatrixQuantisedAndTheRestAsItIs) {
  for (const Compression compression : {kFourBit, kEightBit}) {
    Opened opened(model_, directory_, compression);
    const DType packed = compression == Compression::four_bit ? DType::q4 : DType::q8;
    const std::vector<GroupSpec> layers = {embedding_spec(opened.checkpoint), layer_spec(1)};
    const auto placed = opened.place(layers, {100, 0, 0});
    opened.prepare();
    for (std::size_t l = 0; l < layers.size(); ++l) {
      for (std::size_t t = 0; t < layers[l].tensors.size(); ++t) {
        const WeightSpec& spec = layers[l].tensors[t];
        const WeightInfo& info = placed[l].tensors[t].info;
        const bool is_packed = spec.rows > 1 && spec.name != "embed_positions.weight";
        EXPECT_EQ(is_quantized(info.dtype), is_packed) << spec.name;
        EXPECT_TRUE(opened.bytes(spec) == opened.expected(spec, is_packed ? packed : info.dtype))
            << spec.name;
      }
    }
  }
}

TEST_F(PackedSourceTest, WithoutCompressionOnlyWhatLiesByColumnsIsPacked) {
  Opened opened(model_, directory_);
  opened.names["layers.1.fc1.weight"].transposed = true;  // as if [64, 256] were [256, 64]
  EXPECT_TRUE(needs_packing(opened.checkpoint, opened.names, Compression::none));
  opened.dense = make_checkpoint_source(opened.checkpoint, opened.names, *opened.disk);
  opened.source = make_packed_source(opened.checkpoint, opened.names, *opened.dense, *opened.disk,
                                     {Compression::none, directory_, 2});
  const WeightSpec turned{"layers.1.fc1.weight", 64, 256};
  const WeightSpec plain{"layers.1.fc2.weight", 64, 256};
  const WeightInfo info = opened.source->find(turned);
  opened.source->find(plain);
  EXPECT_FALSE(info.relaid);
  opened.prepare();
  EXPECT_NE(opened.source->extent(info, 0, 512).disk, nullptr);
  EXPECT_TRUE(opened.bytes(plain) == opened.expected(plain, DType::f16));
  EXPECT_TRUE(opened.bytes(turned) == opened.expected(turned, DType::f16));
  EXPECT_THAT(names_in(opened.last.folder), testing::ElementsAre("layer-1.packed"));
  const Opened fresh(model_, directory_);
  EXPECT_FALSE(needs_packing(fresh.checkpoint, fresh.names, Compression::none));
}

TEST_F(PackedSourceTest, SharesAreByteExactToARowAndRowsAreReadFromWhereTheyLie) {
  Opened opened(model_, directory_);
  const std::vector<GroupSpec> layers = {layer_spec(0), layer_spec(1), layer_spec(2)};
  const auto placed = opened.place(layers, {30, 25, 45});
  opened.prepare();
  PerTier<double> bytes = {};
  double total = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    total += static_cast<double>(placed[l].total_bytes());
    for (int tier = 0; tier < kTierCount; ++tier) {
      bytes[static_cast<std::size_t>(tier)] +=
          static_cast<double>(placed[l].bytes(static_cast<Tier>(tier)));
    }
    for (std::size_t t = 0; t < layers[l].tensors.size(); ++t) {
      const TensorPlacement& tensor = placed[l].tensors[t];
      const std::string whole = opened.bytes(layers[l].tensors[t]);
      const std::uint64_t at = tensor.bytes(Tier::device) + tensor.bytes(Tier::host);
      std::string part(tensor.bytes(Tier::disk), '?');
      opened.source->keep_on_disk(tensor.info, at, part.size());
      IoGroup group;
      opened.source->read(tensor.info, at, part.size(), part.data(), group);
      group.wait();
      EXPECT_TRUE(part == whole.substr(at));
      if (part.empty()) continue;
      const WeightExtent extent = opened.source->extent(tensor.info, at, part.size());
      ASSERT_EQ(extent.disk, opened.disk.get());
      part.assign(part.size(), '?');
      opened.disk->read(extent.file, extent.offset, part.size(), part.data(), group);
      group.wait();
      EXPECT_TRUE(part == whole.substr(at));
    }
  }
  const double row = static_cast<double>(row_bytes_of(DType::f16, 256));  // the longest: a bias
  EXPECT_NEAR(bytes[0], 0.30 * total, row);
  EXPECT_NEAR(bytes[1], 0.25 * total, row);
  EXPECT_NEAR(bytes[2], 0.45 * total, row);
}

// A layer's tensors lie one after the other, so that one read brings them all.
TEST_F(PackedSourceTest, ALayerIsInOnePieceOfOneFile) {
  Opened opened(model_, directory_);
  const auto placed = opened.place({layer_spec(0)}, {0, 0, 100});
  opened.prepare();
  std::uint64_t end = 0;
  FileId file = -1;
  for (const TensorPlacement& tensor : placed[0].tensors) {
    const std::uint64_t bytes = tensor.bytes(Tier::disk);
    const WeightExtent extent = opened.source->extent(tensor.info, 0, bytes);
    if (file >= 0) {
      EXPECT_EQ(extent.file, file);
      EXPECT_GE(extent.offset, end);
      EXPECT_LT(extent.offset, end + 64);
    }
    file = extent.file;
    end = extent.offset + bytes;
  }
}

TEST_F(PackedSourceTest, IsFoundAgainAndByOtherSplits) {
  std::filesystem::path folder;
  {
    Opened opened(model_, directory_);
    opened.place({layer_spec(0), layer_spec(1)}, {});
    const PackingState state = opened.prepare();
    EXPECT_EQ(state.done, 0U);
    EXPECT_GT(state.total, 0U);
    EXPECT_EQ(opened.last.done, state.total);
    folder = state.folder;
    EXPECT_THAT(names_in(folder),
                testing::UnorderedElementsAre("layer-0.packed", "layer-1.packed"));
  }
  const auto written = std::filesystem::last_write_time(folder / "layer-1.packed");
  Opened other(model_, directory_);
  other.place({layer_spec(1), layer_spec(2)}, {});
  const PackingState state = other.prepare();
  EXPECT_EQ(state.folder, folder);
  EXPECT_EQ(state.total, 2U * (64 + 256 + 64 * 64 + 2 * 256 * 64));  // of layer 2, in f16
  EXPECT_EQ(std::filesystem::last_write_time(folder / "layer-1.packed"), written);
  Opened again(model_, directory_);
  again.place({layer_spec(0), layer_spec(1), layer_spec(2)}, {});
  EXPECT_EQ(again.prepare().total, 0U);
  for (const WeightSpec& spec : layer_spec(1).tensors) {
    EXPECT_TRUE(again.bytes(spec) == other.bytes(spec));
  }
}

TEST_F(PackedSourceTest, OneNameIsOneTensorWhoeverAsksForIt) {
  Opened opened(model_, directory_);
  const WeightSpec table = embedding_spec(opened.checkpoint).tensors[1];
  const WeightInfo first = opened.source->find(table);
  const WeightInfo other = opened.source->find({"layers.0.fc1.weight", 256, 64});
  const WeightInfo second = opened.source->find(table);
  EXPECT_EQ(first.key, second.key);
  EXPECT_NE(first.key, other.key);
  EXPECT_THROW(opened.source->find({table.name, table.columns, table.rows}), InputError);
}

TEST_F(PackedSourceTest, NothingIsTouchedByPlanning) {
  Opened opened(model_, directory_);
  opened.place({layer_spec(0)}, {});
  EXPECT_FALSE(std::filesystem::exists(directory_.parent_path()));
}

TEST_F(PackedSourceTest, OtherContentOrSettingsHaveAnotherFolder) {
  const std::filesystem::path copy = folder_.path() / "copy";
  std::filesystem::copy(model_, copy);
  const auto time = std::filesystem::last_write_time(copy / "model.safetensors");
  StoredNames names;
  const auto origin = [&](Compression compression) {
    return packed_origin(Checkpoint::open(copy), names, compression);
  };
  const std::string first = origin(kFourBit);
  EXPECT_EQ(origin(kFourBit), first);
  EXPECT_NE(origin(kEightBit), first);
  // Other rows of the same tensors.
  names["layers.0.fc1.weight"] = {"layers.0.fc1.weight", {1, 2, 3}};
  const std::string of_rows = origin(kFourBit);
  EXPECT_NE(of_rows, first);
  names["layers.0.fc1.weight"].rows.step = 4;
  EXPECT_NE(origin(kFourBit), of_rows);
  names.clear();
  std::filesystem::last_write_time(copy / "model.safetensors", time + std::chrono::seconds(1));
  EXPECT_NE(origin(kFourBit), first);
  // The same size and time, but other values.
  std::string bytes = read_file(copy / "model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  support::write_file(copy / "model.safetensors", bytes);
  std::filesystem::last_write_time(copy / "model.safetensors", time);
  EXPECT_NE(origin(kFourBit), first);
}

TEST_F(PackedSourceTest, ManyMayPackTheSameLayersAtOnce) {
  std::vector<std::unique_ptr<Opened>> ranks;
  for (int i = 0; i < 4; ++i) ranks.push_back(std::make_unique<Opened>(model_, directory_));
  {
    std::vector<std::jthread> threads;
    for (auto& rank : ranks) {
      threads.emplace_back([&rank] {
        rank->place({layer_spec(0), layer_spec(1), layer_spec(2)}, {});
        rank->source->prepare({});
      });
    }
  }
  for (auto& rank : ranks) {
    for (const WeightSpec& spec : layer_spec(2).tensors) {
      const DType to =
          spec.rows > 1 ? DType::q4 : rank->dense->find({spec.name, 1, spec.columns}).dtype;
      EXPECT_TRUE(rank->bytes(spec) == rank->expected(spec, to));
    }
  }
  EXPECT_EQ(names_in(ranks[0]->prepare().folder).size(), 3U);
}

TEST_F(PackedSourceTest, AForeignFileOfAPackedNameIsRefusedAndKept) {
  std::filesystem::path file;
  {
    Opened opened(model_, directory_);
    opened.place({layer_spec(0)}, {});
    file = opened.prepare().folder / "layer-0.packed";
  }
  for (const std::string& content : {std::string("somebody's"), read_file(file).substr(0, 5000)}) {
    support::write_file(file, content);
    Opened opened(model_, directory_);
    opened.place({layer_spec(0)}, {});
    EXPECT_THAT(support::refusal([&] { opened.source->prepare({}); }),
                AllOf(HasSubstr(file.string()), HasSubstr("delete it")));
    EXPECT_EQ(read_file(file), content);
  }
}

// Wherever a bit is flipped, nothing of it is ever used.
TEST_F(PackedSourceTest, AFlippedBitIsAnErrorNamingFileAndOffset) {
  std::filesystem::path file;
  {
    Opened opened(model_, directory_);
    opened.place({layer_spec(0)}, {});
    file = opened.prepare().folder / "layer-0.packed";
  }
  const std::string good = read_file(file);
  for (std::size_t at = 1000; at < good.size(); at += 4096) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 16);
    support::write_file(file, bad);
    std::string said;
    try {
      Opened opened(model_, directory_);
      opened.place({layer_spec(0)}, {});
      opened.source->prepare({});
      for (const WeightSpec& spec : layer_spec(0).tensors) opened.bytes(spec);
    } catch (const Error& error) {
      said = error.what();
    }
    EXPECT_THAT(said, AllOf(HasSubstr(file.string()), HasSubstr("offset "))) << at;
  }
}

TEST_F(PackedSourceTest, AFolderThatCannotBeIsNamed) {
  support::write_file(folder_.path() / "made", "a file");
  Opened opened(model_, directory_);
  opened.place({layer_spec(0)}, {});
  try {
    opened.source->prepare({});
    ADD_FAILURE() << "nothing was refused";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(directory_.string()), HasSubstr("--packed-dir")));
  }
}

}  // namespace
}  // namespace sluice::offload
