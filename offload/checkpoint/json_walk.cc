#include "offload/checkpoint/json_walk.h"

#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/device/error.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::offload {

namespace {

using Visit = std::function<void(JsonPath, const JsonValue&)>;
using Kind = JsonValue::Kind;

// The library's event interface; its parser keeps its own stack, so depth costs no recursion.
class Walker final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Walker(const std::string& where, std::size_t max_depth, const Visit& visit)
      : where_(where), max_depth_(max_depth), visit_(visit) {}

  bool null() override { return value({}); }
  bool boolean(bool) override { return value({}); }
  bool number_integer(number_integer_t) override { return value({}); }
  bool number_float(number_float_t, const string_t&) override { return value({}); }
  bool binary(binary_t&) override { return value({}); }
  bool number_unsigned(number_unsigned_t number) override {
    return value({Kind::unsigned_integer, {}, number});
  }
  bool string(string_t& text) override { return value({Kind::text, text, 0}); }

  bool start_object(std::size_t) override { return open(Kind::object, ""); }
  bool start_array(std::size_t) override { return open(Kind::array, "[]"); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) {
      throw InputError(
          fmt::format("{}: the key \"{}\" stands twice in one object; fetch the file "
                      "again",
                      where_, printable(name)));
    }
    path_.back() = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // A number beyond the range of a double arrives here too (out_of_range).
    throw InputError(fmt::format("{}: no valid JSON at byte {} ({}); fetch the file again", where_,
                                 position, printable(error.what())));
  }

 private:
  bool value(const JsonValue& value) {
    visit_(path_, value);
    return true;
  }
  bool open(Kind kind, const char* element) {
    value({kind, {}, 0});
    if (path_.size() >= max_depth_) {
      throw InputError(
          fmt::format("{}: JSON nested deeper than {} levels; the file is not what its "
                      "name says",
                      where_, max_depth_));
    }
    path_.emplace_back(element);
    keys_.emplace_back();
    return true;
  }
  bool close() {
    path_.pop_back();
    keys_.pop_back();
    return true;
  }

  const std::string& where_;
  std::size_t max_depth_;
  const Visit& visit_;
  std::vector<std::string> path_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the open containers
};

}  // namespace

void walk_json(std::string_view text, const std::string& where, std::size_t max_depth,
               const Visit& visit) {
  // The library takes a NUL byte for the end of the text and would accept anything behind it.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw InputError(
        fmt::format("{}: no valid JSON at byte {} (a NUL); fetch the file again", where, nul));
  }
  Walker walker(where, max_depth, visit);
  nlohmann::json::sax_parse(text.begin(), text.end(), &walker);
}

}  // namespace sluice::offload
