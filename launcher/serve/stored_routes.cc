#include "launcher/serve/stored_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <vector>

#include "launcher/jobs/row_fields.h"
#include "launcher/serve/api_error.h"
#include "launcher/serve/completion_request.h"
#include "launcher/serve/http_text.h"
#include "launcher/serve/multipart.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kFiles = "/v1/files";
constexpr std::string_view kBatches = "/v1/batches";
constexpr const char* kEndpoints[] = {"/v1/completions", "/v1/chat/completions", "/v1/embeddings",
                                      "/v1/score"};
constexpr std::size_t kMostMetadata = 16;  // OpenAI's

enum class Kind : std::uint8_t { files, file, content, batches, batch, cancel, none };

HttpAnswer refused(int status, const std::string& sentence) {
  return error_answer({status, sentence});
}

HttpAnswer answer_of(const Json& json) { return {200, json.dump()}; }

/// An OpenAI list of `items`, each with an id, by the query's `after` and `limit`.
HttpAnswer page_of(const HttpHead& head, const std::vector<Json>& items, std::size_t usual) {
  std::size_t limit = usual;
  const std::string asked = query_of(head.target, "limit");
  if (!asked.empty()) {
    const auto [end, error] = std::from_chars(asked.data(), asked.data() + asked.size(), limit);
    if (error != std::errc() || end != asked.data() + asked.size() || limit == 0) {
      throw ApiError{400, "limit must be an integer of at least 1", "limit"};
    }
  }
  const std::string after = query_of(head.target, "after");
  auto begin = items.begin();
  if (!after.empty()) {
    begin =
        std::ranges::find_if(items, [&](const Json& item) { return item.member("id") == after; });
    if (begin != items.end()) ++begin;
  }
  Json data = Json::array();
  while (begin != items.end() && data.size() < limit) data.push_back(*begin++);
  const Json first = data.empty() ? Json() : data.front().member("id");
  const Json last = data.empty() ? Json() : data.back().member("id");
  return answer_of({{"object", "list"},
                    {"data", std::move(data)},
                    {"first_id", first},
                    {"last_id", last},
                    {"has_more", begin != items.end()}});
}

/// Nothing is asked before the body is: a page of another origin can send such a form unasked.
bool is_foreign(const HttpHead& head, const std::string& allow_origin) {
  if (head.origin.empty() || allow_origin == "*" || head.origin == allow_origin) return false;
  return head.origin != "http://" + head.host && head.origin != "https://" + head.host;
}

void check_metadata(const Json& metadata) {
  if (metadata.is_null()) return;
  bool right = metadata.is_object() && metadata.size() <= kMostMetadata;
  for (std::size_t i = 0; right && i < metadata.size(); ++i) {
    const auto& [name, value] = metadata.items()[i];
    right = value.is_string() && name.size() <= 64 && value.text().size() <= 512;
  }
  if (!right) {
    throw ApiError{400, "metadata must be an object of at most 16 texts", "metadata"};
  }
}

}  // namespace

/// Which of the routes a path is.
struct StoredRoutes::Place {
  Kind kind = Kind::none;
  std::string id;

  explicit Place(std::string_view path) {
    const bool files = path.starts_with(kFiles);
    path.remove_prefix(std::min(path.size(), files ? kFiles.size() : kBatches.size()));
    if (path.empty()) {
      kind = files ? Kind::files : Kind::batches;
      return;
    }
    path.remove_prefix(1);
    const std::size_t slash = std::min(path.find('/'), path.size());
    id = std::string(path.substr(0, slash));
    const std::string_view rest = path.substr(slash);
    if (rest.empty() && !id.empty()) kind = files ? Kind::file : Kind::batch;
    if (files && rest == "/content") kind = Kind::content;
    if (!files && rest == "/cancel") kind = Kind::cancel;
  }

  const char* methods() const {
    switch (kind) {
      case Kind::files:
      case Kind::batches:
        return "GET, HEAD, POST";
      case Kind::file:
        return "GET, HEAD, DELETE";
      case Kind::cancel:
        return "POST";
      default:
        return "GET, HEAD";
    }
  }
};

bool StoredRoutes::has(std::string_view path) {
  const auto is_below = [path](std::string_view root) {
    return path == root || (path.starts_with(root) && path[root.size()] == '/');
  };
  return is_below(kFiles) || is_below(kBatches);
}

std::optional<HttpAnswer> StoredRoutes::check(const HttpHead& head,
                                              const std::string& allow_origin) {
  const Place place(head.path);
  if (place.kind == Kind::none) {
    return refused(404, fmt::format("there is nothing at {}; docs/server.md lists what is",
                                    Json(head.path).dump(-1, true)));
  }
  const char* const methods = place.methods();
  const std::string listed = fmt::format(", {},", methods);
  if (listed.find(fmt::format(", {},", head.method)) == std::string::npos) {
    HttpAnswer answer = refused(405, fmt::format("this path takes {}", methods));
    answer.headers.emplace_back("Allow", methods);
    return answer;
  }
  if (head.method != "POST") return {};
  if (place.kind == Kind::files) {
    if (!is_form_type(head.content_type)) {
      return refused(415, "the Content-Type must be multipart/form-data");
    }
    if (is_foreign(head, allow_origin)) {
      return refused(403,
                     "pages of other origins may not ask; --allow-origin names those that may");
    }
  } else if (place.kind == Kind::batches && !is_json_type(head.content_type)) {
    return refused(415, "the Content-Type must be application/json");
  } else if (is_foreign(head, allow_origin)) {  // a cancel has no body that needs a type
    return refused(403, "pages of other origins may not ask; --allow-origin names those that may");
  }
  return {};
}

HttpAnswer StoredRoutes::answer(const HttpHead& head, const std::string& body) {
  const Place place(head.path);
  switch (place.kind) {
    case Kind::files:
      return head.method == "POST" ? upload(head, body) : list_files(head);
    case Kind::file:
      return head.method == "DELETE" ? remove(place.id) : answer_of(file_json(file(place.id)));
    case Kind::content:
      return content(place.id);
    case Kind::batches:
      return head.method == "POST" ? create(body) : list_batches(head);
    case Kind::cancel:
      return answer_of(batch_json(runner_.cancel(place.id)));
    default:
      break;
  }
  const auto batch = batches_.find(place.id);
  if (batch) return answer_of(batch_json(*batch));
  throw ApiError{404, fmt::format("there is no batch {}", Json(place.id).dump(-1, true))};
}

HttpAnswer StoredRoutes::upload(const HttpHead& head, const std::string& body) {
  const FormPart* file = nullptr;
  std::string purpose;
  const std::vector<FormPart> parts = parse_form(head.content_type, body);
  for (const FormPart& part : parts) {
    if (part.name == "file") file = &part;
    if (part.name == "purpose") purpose = part.content;
  }
  if (purpose != "batch") {
    throw ApiError{400, fmt::format("purpose is {}; it must be \"batch\"", shown(Json(purpose))),
                   "purpose"};
  }
  if (file == nullptr) throw ApiError{400, "the form has no part \"file\"", "file"};
  if (file->content.empty()) throw ApiError{400, "the file is empty", "file"};
  const std::string name = file->filename.empty() ? "batch.jsonl" : file->filename;
  return answer_of(file_json(files_.add(name, purpose, std::string(file->content))));
}

HttpAnswer StoredRoutes::list_files(const HttpHead& head) const {
  const std::string purpose = query_of(head.target, "purpose");
  std::vector<Json> items;
  for (const StoredFile& file : files_.list()) {
    if (purpose.empty() || file.purpose == purpose) items.push_back(file_json(file));
  }
  return page_of(head, items, kMostFiles);
}

StoredFile StoredRoutes::file(const std::string& id) const {
  if (auto file = files_.find(id)) return *file;
  throw ApiError{404, fmt::format("there is no file {}", Json(id).dump(-1, true))};
}

HttpAnswer StoredRoutes::content(const std::string& id) const {
  std::ifstream in(files_.path_of(file(id).id), std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(in), {});
  if (!in) throw ApiError{500, fmt::format("the file {} cannot be read", id)};
  return {200, std::move(bytes), "application/octet-stream"};
}

HttpAnswer StoredRoutes::remove(const std::string& id) {
  if (const auto user = batches_.user_of(id)) {
    throw ApiError{400,
                   fmt::format("the batch {} reads the file {}; cancel it first", user->id, id)};
  }
  const StoredFile found = file(id);
  files_.remove(found.id);
  return answer_of({{"id", found.id}, {"object", "file"}, {"deleted", true}});
}

HttpAnswer StoredRoutes::create(const std::string& body) {
  const Json asked = parse_body(body);
  const std::string input = text_field(asked, "input_file_id");
  const std::string endpoint = text_field(asked, "endpoint");
  const std::string window = text_field(asked, "completion_window");
  if (std::ranges::count(kEndpoints, endpoint) == 0) {
    throw ApiError{400,
                   fmt::format("endpoint is {}; batches are for /v1/completions, "
                               "/v1/chat/completions, /v1/embeddings and /v1/score",
                               shown(Json(endpoint))),
                   "endpoint"};
  }
  if (!window.empty() && window != kBatchWindow) {
    throw ApiError{400,
                   fmt::format("completion_window is {}; it must be \"{}\"", shown(Json(window)),
                               kBatchWindow),
                   "completion_window"};
  }
  check_metadata(asked.member("metadata"));
  const auto found = files_.find(input);
  if (!found || found->purpose != "batch") {
    throw ApiError{400,
                   fmt::format("input_file_id is {}; it must be a file of purpose \"batch\"",
                               shown(Json(input))),
                   "input_file_id"};
  }
  const Batch batch = batches_.add(endpoint, input, asked.member("metadata"));
  runner_.ring();
  return answer_of(batch_json(batch));
}

HttpAnswer StoredRoutes::list_batches(const HttpHead& head) const {
  std::vector<Json> items;
  for (const Batch& batch : batches_.list()) items.push_back(batch_json(batch));
  return page_of(head, items, 20);
}

}  // namespace sluice::launcher
