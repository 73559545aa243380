// Runs a fuzz target as a test where there is no libFuzzer: the corpus, and seeded changes of it.
//
//   fuzz_NAME CORPUS DICTIONARY [FIRST [COUNT]]
//
// With FIRST: that change alone, which is kept in ./found, or COUNT changes from there on.
//
// A failed check ends the process, and the seed of the change is told.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr std::uint64_t kChanges = 4000;
constexpr std::size_t kLongest = 8192;
constexpr rlim_t kMemory = rlim_t{2} << 30;

using Texts = std::vector<std::string>;

std::array<char, 300> now_at = {};

void tell(int number) {
  static_cast<void>(::write(STDERR_FILENO, now_at.data(), std::strlen(now_at.data())));
  std::signal(number, SIG_DFL);
  std::raise(number);
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// A line is "word" with \\, \" and \xNN in it.
Texts read_dictionary(const std::filesystem::path& path) {
  Texts words;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::string word;
    for (std::size_t i = 1; i + 1 < line.size(); ++i) {
      if (line[i] == '\\' && line[i + 1] == 'x') {
        word += static_cast<char>(std::stoi(line.substr(i + 2, 2), nullptr, 16));
        i += 3;
      } else {
        word += line[i] == '\\' ? line[++i] : line[i];
      }
    }
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

class Chance {
 public:
  explicit Chance(std::uint64_t seed) : state_(seed) {}
  std::size_t below(std::size_t end) {  // splitmix64
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t x = (state_ ^ state_ >> 30U) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27U) * 0x94d049bb133111ebU;
    return static_cast<std::size_t>((x ^ x >> 31U) % std::max<std::size_t>(end, 1));
  }

 private:
  std::uint64_t state_;
};

void change(std::string& text, const Texts& corpus, const Texts& words, Chance& chance) {
  const std::size_t at = chance.below(text.size() + 1);
  const std::size_t length = 1 + chance.below(32);
  switch (chance.below(6)) {
    case 0:
      text.erase(at, length);
      break;
    case 1:
      text.insert(at, text.substr(chance.below(text.size() + 1), length));
      break;
    case 2: {
      const std::string& other = corpus[chance.below(corpus.size())];
      text = text.substr(0, at) + other.substr(chance.below(other.size() + 1));
      break;
    }
    case 3:
      if (!words.empty()) text.insert(at, words[chance.below(words.size())]);
      break;
    default:
      if (at < text.size()) text[at] = static_cast<char>(chance.below(256));
  }
  text.resize(std::min(text.size(), kLongest));
}

std::string changed(std::uint64_t seed, const Texts& corpus, const Texts& words) {
  Chance chance(seed);
  std::string text = corpus[chance.below(corpus.size())];
  for (std::size_t i = 1 + chance.below(4); i > 0; --i) change(text, corpus, words, chance);
  return text;
}

void run(const std::string& name, const std::string& text) {
  std::snprintf(now_at.data(), now_at.size(), "fuzz: at %s\n", name.c_str());
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
}

/// More than a reader may take ends in std::bad_alloc. A sanitizer's own memory is larger at once.
void limit_memory() {
  std::ifstream file("/proc/self/statm");
  rlim_t pages = 0;
  file >> pages;
  const rlimit limit{kMemory, kMemory};
  if (pages * 4096 < kMemory) static_cast<void>(::setrlimit(RLIMIT_AS, &limit));
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  std::signal(SIGABRT, tell);
  std::signal(SIGSEGV, tell);
  limit_memory();
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[1])) {
    paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  Texts corpus;
  for (const auto& path : paths) corpus.push_back(read(path));
  const Texts words = read_dictionary(arguments[2]);
  if (corpus.empty()) return 2;
  if (count == 4) {
    const std::string text = changed(std::stoull(arguments[3]), corpus, words);
    std::ofstream("found", std::ios::binary) << text;
    run("seed " + std::string(arguments[3]), text);
    return 0;
  }
  for (std::size_t i = 0; i < corpus.size(); ++i) run(paths[i].string(), corpus[i]);
  const std::uint64_t first = count > 4 ? std::stoull(arguments[3]) : 0;
  const std::uint64_t changes = count > 4 ? std::stoull(arguments[4]) : kChanges;
  for (std::uint64_t seed = first; seed < first + changes; ++seed) {
    run("seed " + std::to_string(seed), changed(seed, corpus, words));
  }
  std::cout << corpus.size() << " inputs and " << changes << " changes of them\n";
  return 0;
}
