// What `sluice serve` and `sluice chat` are asked for beside a run's configuration.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::launcher {

struct ServeArguments {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;        // 0: a free one
  std::vector<std::string> names;   // of the model; empty: as the configuration calls it
  std::string chat_template;        // file; empty: the model's own
  std::string api_key_file;         // its first line is the key; empty: SLUICE_API_KEY's, or none
  bool insecure = false;            // other addresses than the loopback, without a key
  std::string allow_origin;         // of pages that may ask; empty: none, "*": any
  std::int32_t max_model_len = 0;   // tokens of prompt and answer; 0: the model's positions
  std::string files_dir;            // of files and batches; empty: none are taken
  std::int32_t max_waiting = 1024;  // requests without a place; further ones get 429

  // Of `sluice chat`:
  std::string system;        // the first message; empty: none
  std::string persona_file;  // ... or the text of this file
};

/// Whether only this machine can reach it: 127.*, ::1, localhost.
bool is_loopback(const std::string& host);

}  // namespace sluice::launcher
