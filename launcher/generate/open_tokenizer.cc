#include "launcher/generate/open_tokenizer.h"

namespace sluice::launcher {

Tokenizer open_tokenizer(const ModelFolder& model) {
  if (Tokenizer::has_files(model.path)) return Tokenizer::open(model.path);
  return Tokenizer::of_ids(model.config.vocabulary, model.config.bos, model.eos_ids.front(),
                           model.config.pad);
}

}  // namespace sluice::launcher
