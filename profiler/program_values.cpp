#include "program_values.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "call_values.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

// Standard deviation of made weight matrices, as GPT-2 initialises them.
constexpr double made_weight_deviation = 0.02;

std::int64_t count_elements(const std::vector<std::int64_t>& sizes) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  return count;
}

class ValueMaker {
 public:
  ValueMaker(const Program& program, c10::Device device, std::int64_t seed)
      : program_(program), device_(device), file_(program.path, std::ios::binary) {
    at::manual_seed(static_cast<std::uint64_t>(seed));
  }

  ProgramValues make() {
    std::vector<c10::IValue> leaves = sample_leaves();
    std::size_t next_leaf = 0;
    for (const InputSpec& spec : program_.input_specs) {
      using Kind = InputSpec::Kind;
      switch (spec.kind) {
        case Kind::parameter:
        case Kind::buffer:
        case Kind::tensor_constant:
          values_.inputs.emplace_back(stored_tensor(spec));
          break;
        case Kind::user_input:
          values_.inputs.push_back(user_input(spec, leaves, next_leaf++));
          break;
        case Kind::constant_input:
          values_.inputs.emplace_back();
          ++next_leaf;
          break;
        case Kind::unsupported:
          throw InputError(
              program_.path, "",
              "takes an input of the kind " + spec.target + ", which is not supported");
      }
    }
    std::stable_sort(values_.static_tensors.begin(), values_.static_tensors.end(),
                     [](const NamedTensor& a, const NamedTensor& b) {
                       return rank_of(a.role) < rank_of(b.role);
                     });
    return std::move(values_);
  }

 private:
  static int rank_of(Role role) {
    return role == Role::parameter ? 0 : role == Role::buffer ? 1 : role == Role::constant ? 2 : 3;
  }

  std::vector<char> read_record(const RecordRange& range) {
    std::vector<char> bytes(range.bytes);
    file_.clear();
    file_.seekg(static_cast<std::streamoff>(range.offset));
    file_.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (static_cast<std::uint64_t>(file_.gcount()) != range.bytes) {
      throw InputError(program_.path, "",
                       "became shorter since it was opened; write or copy it again");
    }
    return bytes;
  }

  // All views of one record share its storage.
  c10::Storage storage_of(const ProgramTensor& tensor) {
    const auto found = storages_.find(tensor.record);
    if (found != storages_.end()) return found->second;
    const std::vector<char> bytes = read_record(tensor.range);
    const at::Tensor raw =
        at::empty({static_cast<std::int64_t>(bytes.size())}, at::TensorOptions().dtype(at::kByte));
    std::copy(bytes.begin(), bytes.end(), static_cast<char*>(raw.mutable_data_ptr()));
    c10::Storage storage = device_.is_cpu() ? raw.storage() : raw.to(device_).storage();
    storages_.emplace(tensor.record, storage);
    return storage;
  }

  // As layers initialise themselves, roughly: values decide no bytes.
  at::Tensor made_tensor(const ProgramTensor& tensor) {
    const auto options = at::TensorOptions().dtype(to_torch(tensor.meta.dtype)).device(device_);
    at::Tensor made = at::empty_strided(tensor.meta.sizes, tensor.meta.strides, options);
    if (!made.is_floating_point()) return made.zero_();
    if (made.dim() >= 2) return made.normal_(0, made_weight_deviation);
    return tensor.name.ends_with("bias") || tensor.name.ends_with("running_mean") ? made.zero_()
                                                                                  : made.fill_(1);
  }

  at::Tensor stored_tensor(const InputSpec& spec) {
    const auto weight = program_.weights.find(spec.target);
    const ProgramTensor& tensor =
        weight != program_.weights.end() ? weight->second : program_.constants.at(spec.target);
    const bool has_values = tensor.range.bytes > 0;
    const bool is_empty = count_elements(tensor.meta.sizes) == 0;
    // Without values every parameter names the same empty record, which says nothing about tying.
    const std::string record = has_values ? tensor.record : "without values: " + tensor.name;
    const auto key = std::make_tuple(record, tensor.meta.dtype, tensor.meta.sizes,
                                     tensor.meta.strides, tensor.meta.storage_offset);
    const auto found = leaves_.find(key);
    if (found != leaves_.end()) return found->second;
    at::Tensor leaf;
    if (has_values && !is_empty) {
      leaf = at::empty({0}, at::TensorOptions().dtype(to_torch(tensor.meta.dtype)).device(device_))
                 .set_(storage_of(tensor), tensor.meta.storage_offset, tensor.meta.sizes,
                       tensor.meta.strides);
    } else {
      leaf = made_tensor(tensor);
    }
    const bool is_parameter = spec.kind == InputSpec::Kind::parameter;
    leaf.requires_grad_(is_parameter && tensor.meta.requires_grad);
    leaves_.emplace(key, leaf);
    const Role role = is_parameter                           ? Role::parameter
                      : spec.kind == InputSpec::Kind::buffer ? Role::buffer
                                                             : Role::constant;
    values_.static_tensors.push_back({spec.target, role, leaf});
    return leaf;
  }

  void flatten(const c10::IValue& value, std::vector<c10::IValue>& leaves) {
    if (value.isTuple()) {
      for (const c10::IValue& item : value.toTupleRef().elements()) flatten(item, leaves);
    } else if (value.isTensorList()) {
      for (const at::Tensor& item : value.toTensorVector()) leaves.emplace_back(item);
    } else if (value.isList()) {
      const c10::ArrayRef<c10::IValue> items = value.toListRef();
      for (const c10::IValue& item : items) flatten(item, leaves);
    } else if (value.isGenericDict()) {
      for (const auto& entry : value.toGenericDict()) flatten(entry.value(), leaves);
    } else {
      leaves.push_back(value);
    }
  }

  // The saved (args, kwargs), flattened as the export flattened them; keyword arguments in the
  // order of forward's signature where their own does not fit.
  std::vector<c10::IValue> sample_leaves() {
    std::vector<c10::IValue> leaves;
    if (program_.sample_inputs.bytes == 0) return leaves;
    const std::vector<char> bytes = read_record(program_.sample_inputs);
    c10::IValue saved;
    try {
      saved = torch::jit::pickle_load_obj(std::string_view(bytes.data(), bytes.size()));
    } catch (const std::exception&) {
      // An export of fake tensors saves fake inputs: their shapes stand in the graph.
      if (program_.has_no_values) return leaves;
      throw InputError(program_.path, "data/sample_inputs",
                       "the sample inputs hold what only Python can read; export with plain "
                       "tensors, numbers, lists and dictionaries as inputs");
    }
    if (!saved.isTuple() || saved.toTupleRef().elements().size() != 2) {
      throw InputError(program_.path, "data/sample_inputs", "is no pair of args and kwargs");
    }
    flatten(saved.toTupleRef().elements()[0], leaves);
    const c10::IValue& keywords = saved.toTupleRef().elements()[1];
    if (!keywords.isGenericDict()) return leaves;
    const auto dictionary = keywords.toGenericDict();
    std::vector<std::string> order;
    for (const std::string& name : program_.forward_argument_names) {
      if (dictionary.contains(name)) order.push_back(name);
    }
    if (order.size() == dictionary.size()) {
      for (const std::string& name : order) flatten(dictionary.at(name), leaves);
    } else {
      flatten(keywords, leaves);
    }
    return leaves;
  }

  c10::IValue user_input(const InputSpec& spec, const std::vector<c10::IValue>& leaves,
                         std::size_t number) {
    const auto* name = std::get_if<TensorName>(&spec.argument);
    if (name == nullptr) return number < leaves.size() ? leaves[number] : c10::IValue();
    const auto meta = program_.graph.tensors.find(name->name);
    if (meta == program_.graph.tensors.end()) {
      throw InputError(program_.path, "input '" + name->name + "'", "has no shape in the graph");
    }
    at::Tensor tensor;
    if (leaves.empty()) {
      tensor = made_input(meta->second);
    } else if (number < leaves.size() && leaves[number].isTensor() &&
               leaves[number].toTensor().scalar_type() == to_torch(meta->second.dtype) &&
               leaves[number].toTensor().sizes().vec() == meta->second.sizes) {
      tensor = leaves[number].toTensor().to(device_);
    } else {
      throw InputError(program_.path, "input '" + name->name + "'",
                       "the saved sample inputs do not fit the graph; export the model again");
    }
    tensor = tensor.detach().requires_grad_(meta->second.requires_grad);
    values_.static_tensors.push_back({name->name, Role::input, tensor});
    return tensor;
  }

  at::Tensor made_input(const TensorMeta& meta) const {
    const auto options = at::TensorOptions().dtype(to_torch(meta.dtype)).device(device_);
    at::Tensor made = at::empty_strided(meta.sizes, meta.strides, options);
    return made.is_floating_point() ? made.normal_() : made.zero_();
  }

  const Program& program_;
  c10::Device device_;
  std::ifstream file_;
  ProgramValues values_;
  std::map<std::string, c10::Storage> storages_;
  std::map<std::tuple<std::string, ScalarType, std::vector<std::int64_t>, std::vector<std::int64_t>,
                      std::int64_t>,
           at::Tensor>
      leaves_;
};

}  // namespace

ProgramValues make_program_values(const Program& program, c10::Device device, std::int64_t seed) {
  return ValueMaker(program, device, seed).make();
}

}  // namespace tidemark
