// Tiny .pt2 archives in memory: stored zip records, as torch.export.save writes them.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tidemark::test {

class ZipWriter {
 public:
  void add(const std::string& name, const std::string& content) {
    const auto crc = static_cast<std::uint32_t>(crc32(
        0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size())));
    const std::size_t offset = bytes_.size();
    bytes_ += "PK\x03\x04" + header(crc, content.size(), name.size()) + name + content;
    directory_ += "PK\x01\x02" + number(20, 2) + header(crc, content.size(), name.size()) +
                  number(0, 2 + 2 + 2 + 4) + number(offset, 4) + name;
    ++count_;
  }

  [[nodiscard]] std::string finish() const {
    return bytes_ + directory_ + "PK\x05\x06" + number(0, 4) + number(count_, 2) +
           number(count_, 2) + number(directory_.size(), 4) + number(bytes_.size(), 4) +
           number(0, 2);
  }

 private:
  static std::string number(std::uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) {
      text += static_cast<char>(i < 8 ? value >> (8 * i) & 255 : 0);
    }
    return text;
  }
  // Version needed, flags, stored, time, date, checksum, sizes, lengths of name and extra field.
  static std::string header(std::uint32_t crc, std::size_t size, std::size_t name) {
    return number(20, 2) + number(0, 2 + 2 + 2) + number(0x21, 2) + number(crc, 4) +
           number(size, 4) + number(size, 4) + number(name, 2) + number(0, 2);
  }

  std::string bytes_;
  std::string directory_;
  std::uint64_t count_ = 0;
};

inline std::string tensor_meta(const std::string& sizes, const std::string& strides,
                               bool requires_grad) {
  return R"({"dtype":7,"sizes":[)" + sizes + R"(],"requires_grad":)" +
         (requires_grad ? "true" : "false") +
         R"(,"device":{"type":"cpu","index":null},"strides":[)" + strides +
         R"(],"storage_offset":{"as_int":0},"layout":7})";
}

// loss = sum(linear(x, w, b)); w is tied to a second name.
inline std::string linear_model_json() {
  const std::string weight =
      tensor_meta(R"({"as_int":2},{"as_int":3})", R"({"as_int":3},{"as_int":1})", true);
  return R"({"graph_module":{"graph":{"inputs":[{"as_tensor":{"name":"p_w"}},{"as_tensor":{"name":"x"}}],
"outputs":[{"as_tensor":{"name":"loss"}}],"nodes":[
{"target":"torch.ops.aten.linear.default","inputs":[{"name":"input","arg":{"as_tensor":{"name":"x"}},"kind":1},
{"name":"weight","arg":{"as_tensor":{"name":"p_w"}},"kind":1}],"outputs":[{"as_tensor":{"name":"y"}}],
"metadata":{"nn_module_stack":"L__self__,,m.Model;L__self___fc,fc,torch.nn.modules.linear.Linear",
"stack_trace":"File \"/home/u/model.py\", line 7, in forward\n    y = self.fc.forward"
}
, "name" : "linear"
},
{"target":"torch.ops.aten.sum.default","inputs":[{"name":"self","arg":{"as_tensor":{"name":"y"}},"kind":1}],
"outputs":[{"as_tensor":{"name":"loss"}}],"metadata":{},"name":"sum_1"}],
"tensor_values":{"p_w":)" +
         weight + R"(,"x":)" +
         tensor_meta(R"({"as_int":4},{"as_int":3})", R"({"as_int":3},{"as_int":1})", false) +
         R"(,"loss":)" + tensor_meta("", "", false) +
         R"(},"sym_int_values":{},"sym_bool_values":{},"sym_float_values":{},"custom_obj_values":{},"is_single_tensor_return":true},
"signature":{"input_specs":[{"parameter":{"arg":{"name":"p_w"},"parameter_name":"fc.weight"}},
{"user_input":{"arg":{"as_tensor":{"name":"x"}}}}],
"output_specs":[{"user_output":{"arg":{"as_tensor":{"name":"loss"}}}}]},
"module_call_graph":[{"fqn":"","signature":null},{"fqn":"fc","signature":null}]},
"opset_version":{"aten":10},"schema_version":{"major":8,"minor":17},"torch_version":"2.11.0"})";
}

inline std::string linear_weights_json() {
  const std::string entry =
      R"({"path_name":"weight_0","is_param":true,"use_pickle":false,"tensor_meta":)" +
      tensor_meta(R"({"as_int":2},{"as_int":3})", R"({"as_int":3},{"as_int":1})", true) + "}";
  return R"({"config":{"fc.weight":)" + entry + R"(,"tied.weight":)" + entry + "}}";
}

inline std::string archive_with(const std::string& model_json, const std::string& weights_json) {
  ZipWriter zip;
  zip.add("linear/archive_format", "pt2");
  zip.add("linear/archive_version", "0");
  zip.add("linear/data/weights/weight_0", std::string(24, '\0'));
  zip.add("linear/data/weights/model_weights_config.json", weights_json);
  zip.add("linear/models/model.json", model_json);
  return zip.finish();
}

inline std::string linear_archive() {
  return archive_with(linear_model_json(), linear_weights_json());
}

}  // namespace tidemark::test
