// Strict reading of the tool's own JSON files: a wrong or missing field becomes an InputError that
// names the file and the place ("ops[12].reads[0]").
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/errors.hpp"
#include "tidemark/one_line.hpp"
#include "tidemark/units.hpp"

namespace tidemark {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

template <typename Value>
[[nodiscard]] OrderedJson or_null(const std::optional<Value>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

// A value of a document together with its place, for messages.
class JsonCursor {
 public:
  JsonCursor(const std::string& file, const Json& value, std::string place)
      : file_(&file), value_(&value), place_(std::move(place)) {}

  [[noreturn]] void fail(const std::string& problem) const {
    throw InputError(*file_, one_line(place_),
                     one_line(problem) + "; the file is damaged or was edited by hand");
  }

  [[nodiscard]] const Json& json() const { return *value_; }
  [[nodiscard]] const std::string& place() const { return place_; }

  [[nodiscard]] JsonCursor at(const std::string& key) const {
    if (!value_->is_object()) fail("is not an object");
    const auto found = value_->find(key);
    if (found == value_->end()) fail("has no \"" + key + "\"");
    return {*file_, *found, place_.empty() ? key : place_ + "." + key};
  }
  // Absent or null: nullopt.
  [[nodiscard]] std::optional<JsonCursor> find(const std::string& key) const {
    if (!value_->is_object()) fail("is not an object");
    const auto found = value_->find(key);
    if (found == value_->end() || found->is_null()) return std::nullopt;
    return JsonCursor{*file_, *found, place_.empty() ? key : place_ + "." + key};
  }
  void for_each(const std::function<void(const JsonCursor&)>& visit) const {
    if (!value_->is_array()) fail("is not a list");
    for (std::size_t i = 0; i < value_->size(); ++i) {
      visit({*file_, (*value_)[i], place_ + "[" + std::to_string(i) + "]"});
    }
  }

  [[nodiscard]] std::string string() const {
    if (!value_->is_string()) fail("is not a text");
    return value_->get<std::string>();
  }
  [[nodiscard]] bool boolean() const {
    if (!value_->is_boolean()) fail("is not true or false");
    return value_->get<bool>();
  }
  [[nodiscard]] double number() const {
    if (!value_->is_number()) fail("is not a number");
    return value_->get<double>();
  }
  [[nodiscard]] double number_from_zero() const {
    const double value = number();
    if (!(value >= 0)) fail("is negative");
    return value;
  }
  [[nodiscard]] std::int64_t integer(
      std::int64_t least = std::numeric_limits<std::int64_t>::min(),
      std::int64_t most = std::numeric_limits<std::int64_t>::max()) const {
    if (!value_->is_number_integer()) fail("is not a whole number");
    const bool is_too_large =
        value_->is_number_unsigned() &&
        value_->get<std::uint64_t>() >
            static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (is_too_large || value_->get<std::int64_t>() < least || value_->get<std::int64_t>() > most) {
      fail("is out of range");
    }
    return value_->get<std::int64_t>();
  }
  [[nodiscard]] Bytes bytes() const { return integer(0); }
  [[nodiscard]] std::int32_t small_integer(
      std::int32_t least = std::numeric_limits<std::int32_t>::min()) const {
    return static_cast<std::int32_t>(integer(least, std::numeric_limits<std::int32_t>::max()));
  }
  template <typename Id>
  [[nodiscard]] Id id() const {
    return static_cast<Id>(
        static_cast<std::int32_t>(integer(0, std::numeric_limits<std::int32_t>::max())));
  }
  // One of the names of an enumeration; `name_of` gives a value's name.
  template <typename Enum, typename NameOf>
  [[nodiscard]] Enum enumeration(std::size_t count, NameOf name_of) const {
    const std::string text = string();
    for (std::size_t i = 0; i < count; ++i) {
      if (name_of(static_cast<Enum>(i)) == text) return static_cast<Enum>(i);
    }
    fail("has the unknown value \"" + beginning(text) + "\"");
  }
  template <typename Item, typename Read>
  [[nodiscard]] std::vector<Item> list(Read read) const {
    std::vector<Item> items;
    for_each([&](const JsonCursor& item) { items.push_back(read(item)); });
    return items;
  }
  template <typename Id>
  [[nodiscard]] std::vector<Id> ids() const {
    return list<Id>([](const JsonCursor& item) { return item.template id<Id>(); });
  }
  [[nodiscard]] std::vector<std::int64_t> integers() const {
    return list<std::int64_t>([](const JsonCursor& item) { return item.integer(); });
  }
  [[nodiscard]] std::vector<std::string> strings() const {
    return list<std::string>([](const JsonCursor& item) { return item.string(); });
  }

 private:
  const std::string* file_;
  const Json* value_;
  std::string place_;
};

// Parses a document; a syntax error names line and column.
[[nodiscard]] Json parse_document(const std::string& file, const std::string& text);

// Refuses a document that is not of this format, or of a newer version of it.
void check_format(const std::string& file, const Json& document, const std::string& format,
                  std::int32_t newest_version);

// Compact text; bytes that are no UTF-8 are replaced rather than refused.
[[nodiscard]] std::string to_text(const OrderedJson& document, int indentation = -1);

}  // namespace tidemark
