// What is kept for clients, in OpenAI's form: /v1/files and /v1/batches, with what is below them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "launcher/serve/batch_runner.h"
#include "launcher/serve/batch_store.h"
#include "launcher/serve/file_store.h"
#include "launcher/serve/http_types.h"

namespace sluice::launcher {

class StoredRoutes {
 public:
  /// References must outlive it.
  StoredRoutes(FileStore& files, BatchStore& batches, BatchRunner& runner)
      : files_(files), batches_(batches), runner_(runner) {}

  /// Whether the path is one of these.
  static bool has(std::string_view path);
  /// Before the body is read: what is wrong with path, method or Content-Type. `allow_origin`: as
  /// ServiceOptions has it.
  static std::optional<HttpAnswer> check(const HttpHead& head, const std::string& allow_origin);

  /// Pre: check() has nothing against it. Reads and writes files. Throws ApiError.
  HttpAnswer answer(const HttpHead& head, const std::string& body);

 private:
  struct Place;

  HttpAnswer upload(const HttpHead& head, const std::string& body);
  HttpAnswer list_files(const HttpHead& head) const;
  HttpAnswer content(const std::string& id) const;
  HttpAnswer remove(const std::string& id);
  HttpAnswer create(const std::string& body);
  HttpAnswer list_batches(const HttpHead& head) const;
  StoredFile file(const std::string& id) const;

  FileStore& files_;
  BatchStore& batches_;
  BatchRunner& runner_;
};

}  // namespace sluice::launcher
