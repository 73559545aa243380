#include "launcher/tokenizer/sentence_piece_model.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <vector>

#include "kernels/device/error.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

constexpr const char* kBlank = "\u2581";
constexpr const char* kLineBreak = "[NL]";  // YaLM's, whose normalizer knows no line breaks

}  // namespace

class SentencePieceModel::Processor {
 public:
  explicit Processor(const std::string& file) {
    const auto status = engine.LoadFromSerializedProto(read_tokenizer_file(file));
    if (!status.ok()) {
      throw InputError(
          fmt::format("{} is no model of the SentencePiece library: {}", file, status.ToString()));
    }
  }
  sentencepiece::SentencePieceProcessor engine;
};

SentencePieceModel::SentencePieceModel(const std::string& file)
    : processor_(std::make_unique<Processor>(file)) {}
SentencePieceModel::~SentencePieceModel() = default;

void SentencePieceModel::append_tokens(std::string_view piece, Workspace& /*workspace*/,
                                       std::vector<std::int32_t>& ids) const {
  std::vector<int> made;
  const auto status = processor_->engine.Encode(piece, &made);
  if (!status.ok()) {
    throw InputError(fmt::format("the SentencePiece library cannot tokenize a text of {} bytes: {}",
                                 piece.size(), status.ToString()));
  }
  ids.insert(ids.end(), made.begin(), made.end());
}

std::filesystem::path sentence_piece_file(const std::filesystem::path& folder) {
  for (const char* name : {"tokenizer.model", "voc_100b.sp", "vocab/voc_100b.sp"}) {
    if (has_file(folder, name)) return folder / name;
  }
  return {};
}

void SentencePieceModel::read(const std::string& file, Vocabulary& vocabulary) {
  const Processor processor(file);
  const sentencepiece::SentencePieceProcessor& engine = processor.engine;
  vocabulary.kind = Vocabulary::Kind::sentence_piece;
  vocabulary.source = file;
  vocabulary.pre_tokenizer.clear();
  vocabulary.added_as_text = false;
  for (int id = 0; id < engine.GetPieceSize(); ++id) {
    add_token(engine.IdToPiece(id), id, file, vocabulary);
  }
  vocabulary.words = vocabulary.words_end = vocabulary.size;
  vocabulary.unknown = engine.unk_id();
  vocabulary.bos = engine.bos_id();
  vocabulary.eos = engine.eos_id();
  vocabulary.pad = engine.pad_id();
  const bool is_yalm = vocabulary.find(kLineBreak) >= 0;
  for (int id = 0; id < engine.GetPieceSize(); ++id) {
    if (!engine.IsControl(id) && !engine.IsUnknown(id)) continue;
    // YaLM's own program takes </s> in a text for letters; Hugging Face's for the token.
    add_added_token({.text = engine.IdToPiece(id), .in_text = !is_yalm}, file, vocabulary);
  }
  using Step = DecoderStep;
  vocabulary.decoder = {{.kind = Step::Kind::replace, .pattern = {.text = kBlank}, .content = " "}};
  if (is_yalm) {
    vocabulary.normalizer = {
        {.kind = NormalizerStep::Kind::replace, .pattern = {.text = "\n"}, .content = kLineBreak}};
    vocabulary.decoder.push_back(
        {.kind = Step::Kind::replace, .pattern = {.text = kLineBreak}, .content = "\n"});
  }
  vocabulary.decoder.push_back({.kind = Step::Kind::byte_fallback});
  vocabulary.decoder.push_back({.kind = Step::Kind::fuse});
  std::vector<std::string> pieces;
  const bool has_prefix =
      engine.Encode("a", &pieces).ok() && !pieces.empty() && pieces.front().starts_with(kBlank);
  if (has_prefix) {
    vocabulary.decoder.push_back({.kind = Step::Kind::strip, .content = " ", .start = 1});
  }
}

}  // namespace sluice::launcher
