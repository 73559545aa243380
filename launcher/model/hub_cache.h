// The local cache of the Hugging Face hub, as its own tools fill it.
#pragma once

#include <filesystem>
#include <string>

namespace sluice::launcher {

/// Whether `model` has the form of a hub id: "owner/name".
bool is_hub_id(const std::string& model);

/// Whether the cache says which snapshot of the model is its newest.
bool is_in_hub_cache(const std::string& hub_id);

/// The folder of the snapshot that refs/main names. Throws InputError, with the command that
/// downloads the model, if it is not there.
std::filesystem::path find_in_hub_cache(const std::string& hub_id);

/// The end of a sentence on a file that `folder` lacks: where `folder` is a snapshot of the cache,
/// the command that finishes its download; else nothing.
std::string download_hint(const std::filesystem::path& folder);

/// The same for a checkpoint that cannot be opened: nothing if the download seems complete, so that
/// something else is wrong with the checkpoint.
std::string weights_hint(const std::filesystem::path& folder);

}  // namespace sluice::launcher
