// The shapes of published models: what a plan, or a run with made-up weights, needs of a model that
// is not here. Of each its config.json's values that matter to what is computed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::launcher {

struct PublishedShape {
  std::string name;    // on the Hugging Face hub: "facebook/opt-175b"
  std::string config;  // as a config.json
};

/// `name` as on the hub, in any case; or one of the old names without an owner, "gpt2".
std::optional<PublishedShape> find_published_shape(std::string_view name);

/// All names, each as on the hub.
std::vector<std::string> published_names();

/// "; did you mean 'facebook/opt-13b'?", also for a name without its owner; or nothing.
std::string published_suggestion(std::string_view name);

}  // namespace sluice::launcher
