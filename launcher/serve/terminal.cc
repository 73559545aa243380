#include "launcher/serve/terminal.h"

#include <histedit.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cwchar>

namespace sluice::launcher {
namespace {

constexpr char kCtrlC = 3;
constexpr int kHistoryLines = 1000;

/// Keys come one by one, unseen, and none is a signal.
class KeysAlone {
 public:
  KeysAlone() {
    ::tcgetattr(STDIN_FILENO, &before_);
    termios keys = before_;
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &keys);
  }
  ~KeysAlone() { ::tcsetattr(STDIN_FILENO, TCSANOW, &before_); }
  KeysAlone(const KeysAlone&) = delete;
  KeysAlone& operator=(const KeysAlone&) = delete;

 private:
  termios before_ = {};
};

}  // namespace

/// Standard input byte by byte, until somebody stops it.
class Terminal::Keys {
 public:
  Keys() : stop_(::eventfd(0, EFD_CLOEXEC)) {}
  ~Keys() { ::close(stop_); }
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  /// Nothing: the end.
  std::optional<char> next() {
    pollfd both[] = {{STDIN_FILENO, POLLIN, 0}, {stop_, POLLIN, 0}};
    while (::poll(both, 2, -1) < 0) continue;
    char key = 0;
    if (both[1].revents != 0 || ::read(STDIN_FILENO, &key, 1) != 1) return {};
    return key;
  }
  void stop() noexcept { static_cast<void>(::eventfd_write(stop_, 1)); }

 private:
  const int stop_;
};

class Terminal::Editor {
 public:
  explicit Editor(Keys& keys)
      : keys_(keys),
        editor_(::el_init("sluice", stdin, stdout, stderr)),
        history_(::history_init()) {
    HistEvent event = {};
    ::history(history_, &event, H_SETSIZE, kHistoryLines);
    ::el_set(editor_, EL_CLIENTDATA, this);
    ::el_set(editor_, EL_PROMPT, &Editor::prompt_of);
    ::el_set(editor_, EL_GETCFN, &Editor::read_character);
    ::el_set(editor_, EL_EDITOR, "emacs");
    ::el_set(editor_, EL_HIST, ::history, history_);
    // Ctrl-C empties the line: what the answer before it was stopped by ends no program.
    ::el_set(editor_, EL_SETTY, "-d", "-isig", nullptr);
    ::el_set(editor_, EL_BIND, "^C", "em-kill-line", nullptr);
  }
  ~Editor() {
    ::el_end(editor_);
    ::history_end(history_);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  std::optional<std::string> read_line(const std::string& prompt) {
    prompt_ = prompt;
    int bytes = 0;
    const char* const read = ::el_gets(editor_, &bytes);
    if (read == nullptr || bytes <= 0) return {};
    std::string line(read, static_cast<std::size_t>(bytes));
    if (line.ends_with('\n')) line.pop_back();
    HistEvent event = {};
    if (!line.empty()) ::history(history_, &event, H_ENTER, line.c_str());
    return line;
  }

 private:
  static Editor& self_of(EditLine* editor) {
    void* self = nullptr;
    ::el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<Editor*>(self);
  }
  static char* prompt_of(EditLine* editor) { return self_of(editor).prompt_.data(); }

  /// 1: `character` is there; 0: the end. Bytes that are no character are passed over.
  static int read_character(EditLine* editor, wchar_t* character) {
    std::mbstate_t state = {};
    while (const std::optional<char> key = self_of(editor).keys_.next()) {
      const std::size_t taken = std::mbrtowc(character, &*key, 1, &state);
      if (taken == static_cast<std::size_t>(-1)) state = {};
      if (taken <= 1) return 1;
    }
    return 0;
  }

  Keys& keys_;
  EditLine* editor_;
  History* history_;
  std::string prompt_;
};

Terminal::Terminal() : keys_(std::make_unique<Keys>()) {
  std::setlocale(LC_CTYPE, "");
  if (::isatty(STDIN_FILENO) != 0) editor_ = std::make_unique<Editor>(*keys_);
}
Terminal::~Terminal() = default;

void Terminal::stop() noexcept { keys_->stop(); }

std::optional<std::string> Terminal::read_line(const std::string& prompt) {
  if (editor_) return editor_->read_line(prompt);
  std::string line;
  for (std::optional<char> key; (key = keys_->next()) != std::nullopt; line += *key) {
    if (*key == '\n') return line;
  }
  return line.empty() ? std::nullopt : std::optional(line);
}

bool Terminal::wait(int done) {
  std::optional<KeysAlone> keys;
  if (editor_) keys.emplace();
  pollfd both[] = {{done, POLLIN, 0}, {editor_ ? STDIN_FILENO : -1, POLLIN, 0}};
  for (;;) {
    if (::poll(both, 2, -1) < 0) continue;
    if (both[0].revents != 0) return false;
    char key = 0;
    if (both[1].revents != 0 && ::read(STDIN_FILENO, &key, 1) != 1) both[1].fd = -1;
    if (key == kCtrlC) return true;
  }
}

}  // namespace sluice::launcher
