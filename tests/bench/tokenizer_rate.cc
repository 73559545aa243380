// MB per second of one core that a tokenizer makes ids of: tokenizer_rate FOLDER TEXT [LINES].
// With LINES "lines" every line is a text of its own; else the file is one text.
#include <algorithm>
#include <ctime>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/tokenizer.h"

namespace {

double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::vector<std::string_view> texts_of(std::string_view all, bool lines) {
  if (!lines) return {all};
  std::vector<std::string_view> texts;
  while (!all.empty()) {
    const std::size_t end = std::min(all.find('\n'), all.size() - 1) + 1;
    texts.push_back(all.substr(0, end));
    all.remove_prefix(end);
  }
  return texts;
}

int run(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "tokenizer_rate FOLDER TEXT [lines]\n";
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  const auto tokenizer = sluice::launcher::Tokenizer::open(argv[1]);
  const std::vector<std::string_view> texts = texts_of(all, argc > 3);
  std::size_t ids = 0;
  const double begin = processor_seconds();
  for (const std::string_view text : texts) ids += tokenizer.encode(text).size();
  const double seconds = processor_seconds() - begin;
  std::cout << static_cast<double>(all.size()) / 1e6 / seconds << " MB/s, " << ids << " ids, "
            << texts.size() << " texts\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& problem) {
    std::cerr << "tokenizer_rate: " << problem.what() << '\n';
    return 1;
  }
}
