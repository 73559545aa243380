// A person at a terminal: lines with editing and history, and Ctrl-C as a key like others. Where
// standard input is no terminal, its lines are read as they are.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace sluice::launcher {

/// Of one thread, but for stop(). At its end the terminal is as it was.
class Terminal {
 public:
  Terminal();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  /// Nothing: the input has ended (Ctrl-D), or stop() was called. The prompt is shown on a terminal
  /// only.
  std::optional<std::string> read_line(const std::string& prompt);
  /// Waits until the descriptor `done` can be read. True: Ctrl-C was pressed before that.
  bool wait(int done);
  /// read_line() gives nothing from now on, at once. Any thread.
  void stop() noexcept;

 private:
  class Keys;
  class Editor;
  std::unique_ptr<Keys> keys_;
  /// Null: no terminal.
  std::unique_ptr<Editor> editor_;
};

}  // namespace sluice::launcher
