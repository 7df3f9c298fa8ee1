// The registry of readers: which kind of file this is, told by its first bytes.
#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

struct Reader {
  std::string_view name;
  bool (*recognises)(std::string_view head);
  ModelInput (*read)(const std::string& path);
};

bool begins_a_zip(std::string_view head) { return head.starts_with("PK"); }
bool begins_a_step(std::string_view head) {
  const std::size_t brace = head.find_first_not_of(" \t\r\n");
  return head.starts_with("\x1f\x8b") || (brace != std::string_view::npos && head[brace] == '{');
}

constexpr std::array<Reader, 2> readers{{
    {"exported program (.pt2)", begins_a_zip,
     [](const std::string& path) -> ModelInput { return read_program(path); }},
    {"step trace (.json, .json.gz)", begins_a_step,
     [](const std::string& path) -> ModelInput { return read_step_trace(path); }},
}};

// What people are likely to pass instead, and what to do about it.
std::string describe_foreign(std::string_view head) {
  if (head.starts_with("\x80\x02") || head.starts_with("\x80\x04")) {
    return "is a pickled checkpoint, which holds values and no program; export the model with "
           "torch.export.save";
  }
  if (head.size() > 9 && head[8] == '{' && head[7] == '\0') {
    return "is a safetensors file, which holds weights and no program; export the model with "
           "torch.export.save";
  }
  if (head.starts_with("\x08")) {
    return "looks like an ONNX model, which has no backward; export the model with "
           "torch.export.save";
  }
  return "";
}

}  // namespace

ModelInput read_model(const std::string& path) {
  std::string head(64, '\0');
  std::ifstream file(path, std::ios::binary);
  std::error_code error;
  // read_file says why it cannot be opened.
  if (!file || std::filesystem::is_directory(path, error)) (void)read_file(path);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(file.gcount()));
  if (head.empty()) throw InputError(path, "", "is empty; write or copy it again");
  for (const Reader& reader : readers) {
    if (reader.recognises(head)) return reader.read(path);
  }
  const std::string foreign = describe_foreign(head);
  if (!foreign.empty()) throw InputError(path, "", foreign);
  std::string known;
  for (const Reader& reader : readers) {
    known += (known.empty() ? "" : " or ") + std::string(reader.name);
  }
  throw InputError(path, "", "is of no known kind; give an " + known);
}

}  // namespace tidemark
