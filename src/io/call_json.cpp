#include "call_json.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace tidemark {

namespace {

constexpr int deepest_list = 16;

OrderedJson double_to_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double read_double(const JsonCursor& json) {
  if (!json.json().is_string()) return json.number();
  const std::string text = json.string();
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  json.fail("is not a number");
}

OrderedJson value_to_json(const CallValue& value);

struct ToJson {
  OrderedJson operator()(const NullValue&) const { return nullptr; }
  OrderedJson operator()(const TensorView& view) const {
    return {{"t", tensor_view_to_json(view)}};
  }
  OrderedJson operator()(std::int64_t number) const { return {{"i", number}}; }
  OrderedJson operator()(double number) const { return {{"f", double_to_json(number)}}; }
  OrderedJson operator()(bool flag) const { return {{"b", flag}}; }
  OrderedJson operator()(const std::string& text) const { return {{"s", text}}; }
  OrderedJson operator()(ScalarType type) const { return {{"dtype", name(type)}}; }
  OrderedJson operator()(const DeviceValue& device) const { return {{"device", device.name}}; }
  OrderedJson operator()(Layout) const { return {{"layout", "strided"}}; }
  OrderedJson operator()(MemoryFormat format) const { return {{"memory_format", name(format)}}; }
  OrderedJson operator()(const DefaultGenerator&) const { return {{"generator", "default"}}; }
  OrderedJson operator()(const CallList& list) const {
    OrderedJson items = OrderedJson::array();
    for (const CallValue& item : list.items) items.push_back(value_to_json(item));
    return {{"list", std::move(items)}, {"of", list.of}};
  }
};

OrderedJson value_to_json(const CallValue& value) { return std::visit(ToJson{}, value.value); }

ScalarType read_scalar_type(const JsonCursor& json) {
  const auto type = scalar_type_from_name(json.string());
  if (!type) json.fail("is an unknown element type");
  return *type;
}

CallValue read_list(const JsonCursor& json, int depth);

CallValue read_value(const JsonCursor& json, int depth) {
  if (json.json().is_null()) return {NullValue{}};
  if (json.find("list")) return read_list(json, depth);
  if (!json.json().is_object() || json.json().size() != 1) {
    json.fail("is not an object with one key");
  }
  const std::string& kind = json.json().begin().key();
  const JsonCursor value = json.at(kind);
  if (kind == "t") return {read_tensor_view(value)};
  if (kind == "i") return {value.integer()};
  if (kind == "f") return {read_double(value)};
  if (kind == "b") return {value.boolean()};
  if (kind == "s") return {value.string()};
  if (kind == "dtype") return {read_scalar_type(value)};
  if (kind == "device") return {DeviceValue{value.string()}};
  if (kind == "layout" && value.string() == "strided") return {Layout::strided};
  if (kind == "generator" && value.string() == "default") return {DefaultGenerator{}};
  if (kind == "memory_format") {
    const auto format = memory_format_from_name(value.string());
    if (!format) value.fail("is an unknown memory format");
    return {*format};
  }
  json.fail("is of an unknown kind");
}

CallValue read_list(const JsonCursor& json, int depth) {
  if (json.json().size() != 2) json.fail("is not an object with the keys \"list\" and \"of\"");
  if (depth > deepest_list) json.fail("lists lie too deep in each other");
  CallList list;
  list.of = json.at("of").string();
  list.items = json.at("list").list<CallValue>(
      [&](const JsonCursor& item) { return read_value(item, depth + 1); });
  return {std::move(list)};
}

OrderedJson values_to_json(const std::vector<CallValue>& values) {
  OrderedJson json = OrderedJson::array();
  for (const CallValue& value : values) json.push_back(value_to_json(value));
  return json;
}

}  // namespace

OrderedJson tensor_view_to_json(const TensorView& view) {
  return {{"storage", static_cast<std::int32_t>(view.storage)},
          {"dtype", name(view.dtype)},
          {"sizes", view.sizes},
          {"strides", view.strides},
          {"offset", view.offset},
          {"wrapped", view.is_wrapped_number},
          {"conj", view.is_conjugated},
          {"neg", view.is_negated}};
}

TensorView read_tensor_view(const JsonCursor& json) {
  TensorView view;
  view.storage = json.at("storage").id<StorageId>();
  view.dtype = read_scalar_type(json.at("dtype"));
  view.sizes = json.at("sizes").integers();
  view.strides = json.at("strides").integers();
  if (view.sizes.size() != view.strides.size()) json.fail("has not as many strides as sizes");
  view.offset = json.at("offset").integer(0);
  if (const auto flag = json.find("wrapped")) view.is_wrapped_number = flag->boolean();
  if (const auto flag = json.find("conj")) view.is_conjugated = flag->boolean();
  if (const auto flag = json.find("neg")) view.is_negated = flag->boolean();
  return view;
}

OrderedJson call_to_json(const Call& call) {
  return {{"overload", call.overload},
          {"args", values_to_json(call.arguments)},
          {"results", values_to_json(call.results)}};
}

Call read_call(const JsonCursor& json) {
  const auto read = [](const JsonCursor& item) { return read_value(item, 0); };
  return {.overload = json.at("overload").string(),
          .arguments = json.at("args").list<CallValue>(read),
          .results = json.at("results").list<CallValue>(read)};
}

}  // namespace tidemark
