#include "boxed_call.hpp"

#include <algorithm>
#include <utility>

#include "call_values.hpp"
#include "tidemark/errors.hpp"
#include "torch_error.hpp"

namespace tidemark {

namespace {

std::string title_of(const Op& op, OpId id) {
  return "operator " + std::to_string(index(id)) + " (" + op.name +
         (op.module.empty() ? "" : " in " + op.module) + ")";
}

const Call& call_of(const Op& op, Gradients gradients, const std::string& title) {
  const std::optional<Call>& call = form_of(op, gradients).call;
  if (call) return *call;
  throw InputError(title + " carries no call, so the step cannot be executed; record it again");
}

c10::OperatorHandle find_operator(const Op& op, const Call& call, const std::string& title) {
  const auto found = c10::Dispatcher::singleton().findSchema({op.name, call.overload});
  if (!found) {
    throw InputError(title + ": this PyTorch has no operator " + op.name +
                     (call.overload.empty() ? "" : "." + call.overload) +
                     "; record the step again with it");
  }
  return *found;
}

// A storage without bytes that a kernel may still resize.
c10::Storage empty_storage(c10::Device device) {
  return {c10::Storage::use_byte_size_t(), 0, c10::DataPtr(nullptr, device),
          c10::GetAllocator(device.type()), /*resizable=*/true};
}

}  // namespace

BoxedCall::BoxedCall(const StepTrace& trace, OpId id, Gradients gradients, c10::Device device)
    : BoxedCall(trace, trace.ops[index(id)],
                call_of(trace.ops[index(id)], gradients, title_of(trace.ops[index(id)], id)),
                title_of(trace.ops[index(id)], id), device) {}

BoxedCall::BoxedCall(const StepTrace& trace, const Op& op, const Call& call, std::string title,
                     c10::Device device)
    : trace_(trace),
      device_(device),
      op_(find_operator(op, call, title)),
      title_(std::move(title)) {
  const std::vector<c10::Argument>& schema = op_.schema().arguments();
  if (schema.size() != call.arguments.size()) {
    throw InputError(title_ + " takes " + std::to_string(schema.size()) +
                     " arguments, the call has " + std::to_string(call.arguments.size()));
  }
  try {
    for (std::size_t i = 0; i < schema.size(); ++i) {
      arguments_.push_back(prepare(call.arguments[i], *schema[i].real_type()));
    }
  } catch (const std::exception& error) {
    throw InputError(title_ + ": " + error.what());
  }
  created_ = op.creates.size();
  const auto add_result = [&](const CallValue& value) {
    const auto* view = std::get_if<TensorView>(&value.value);
    Result result{.is_defined = view != nullptr, .created = -1, .bytes = 0};
    if (view != nullptr) {
      const auto position = std::find(op.creates.begin(), op.creates.end(), view->storage);
      if (position != op.creates.end()) {
        result.created = static_cast<std::int32_t>(position - op.creates.begin());
        result.bytes = trace.storages[index(view->storage)].bytes;
      }
    }
    results_.push_back(result);
  };
  for (const CallValue& value : call.results) {
    const auto* list = std::get_if<CallList>(&value.value);
    if (list == nullptr) {
      add_result(value);
    } else {
      std::for_each(list->items.begin(), list->items.end(), add_result);
    }
  }
}

BoxedCall::View BoxedCall::prepare_view(const TensorView& view) const {
  return {.storage = index(view.storage),
          .device = is_on_device(trace_, view.storage) ? device_ : c10::Device(c10::kCPU),
          .type = c10::scalarTypeToTypeMeta(to_torch(view.dtype)),
          .sizes = view.sizes,
          .strides = view.strides,
          .offset = view.offset,
          .is_wrapped_number = view.is_wrapped_number,
          .is_conjugated = view.is_conjugated,
          .is_negated = view.is_negated};
}

BoxedCall::Argument BoxedCall::prepare(const CallValue& value, const c10::Type& type) const {
  if (const auto* view = std::get_if<TensorView>(&value.value)) {
    return {.kind = Kind::tensor, .constant = {}, .tensors = {prepare_view(*view)}};
  }
  const auto* list = std::get_if<CallList>(&value.value);
  if (list != nullptr && (list->of == "tensor" || list->of == "tensor?")) {
    Argument argument{.kind = list->of == "tensor" ? Kind::tensor_list : Kind::optional_tensor_list,
                      .constant = {},
                      .tensors = {}};
    for (const CallValue& item : list->items) {
      const auto* view = std::get_if<TensorView>(&item.value);
      argument.tensors.push_back(view == nullptr ? std::nullopt
                                                 : std::optional(prepare_view(*view)));
    }
    return argument;
  }
  const TensorMaker no_tensors = [](const TensorView&) -> at::Tensor {
    throw InputError("a list of numbers holds a tensor");
  };
  return {.kind = Kind::constant, .constant = to_ivalue(value, type, no_tensors), .tensors = {}};
}

at::Tensor BoxedCall::make(const View& view, const std::vector<const c10::Storage*>& bound) {
  const c10::Storage* storage = bound[view.storage];
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      storage == nullptr ? empty_storage(view.device) : c10::Storage(*storage),
      c10::DispatchKeySet(view.device.is_cpu() ? c10::DispatchKey::CPU : c10::DispatchKey::CUDA),
      view.type);
  c10::TensorImpl* implementation = tensor.unsafeGetTensorImpl();
  implementation->set_sizes_and_strides(view.sizes, view.strides, view.offset);
  if (view.is_wrapped_number) implementation->set_wrapped_number(true);
  if (view.is_conjugated) implementation->_set_conj(true);
  if (view.is_negated) implementation->_set_neg(true);
  return tensor;
}

c10::IValue BoxedCall::make(const Argument& argument,
                            const std::vector<const c10::Storage*>& bound) {
  const auto tensor = [&](const std::optional<View>& view) {
    return view ? make(*view, bound) : at::Tensor();
  };
  switch (argument.kind) {
    case Kind::constant:
      return argument.constant;
    case Kind::tensor:
      return tensor(argument.tensors.front());
    case Kind::tensor_list: {
      c10::List<at::Tensor> list;
      for (const std::optional<View>& view : argument.tensors) list.push_back(tensor(view));
      return list;
    }
    case Kind::optional_tensor_list: {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<View>& view : argument.tensors) {
        list.push_back(view ? std::optional(tensor(view)) : std::nullopt);
      }
      return list;
    }
  }
  throw InternalError("an argument of an unknown kind");
}

void BoxedCall::run(const std::vector<const c10::Storage*>& bound,
                    std::vector<c10::Storage>& made) {
  made.assign(created_, c10::Storage());
  stack_.clear();
  for (const Argument& argument : arguments_) stack_.push_back(make(argument, bound));
  try {
    op_.callBoxed(stack_);
  } catch (const c10::OutOfMemoryError&) {
    stack_.clear();
    throw;
  } catch (const c10::Error& error) {
    stack_.clear();
    if (is_out_of_memory(error)) throw;  // as above, but of a library
    throw DeviceError(title_ + " failed: " + first_line(error));
  } catch (...) {
    stack_.clear();
    throw;
  }
  keep_results(made);
  stack_.clear();
}

void BoxedCall::keep_results(std::vector<c10::Storage>& made) {
  std::size_t next = 0;
  const auto take = [&](const at::Tensor& tensor) {
    if (next < results_.size()) keep(tensor, results_[next], made);
    ++next;
  };
  for (const c10::IValue& output : stack_) {
    if (output.isTensor()) {
      take(output.toTensor());
    } else if (output.isTensorList()) {
      for (const at::Tensor& tensor : output.toTensorList()) take(tensor);
    } else {
      ++next;
    }
  }
}

void BoxedCall::keep(const at::Tensor& tensor, const Result& expected,
                     std::vector<c10::Storage>& made) const {
  if (expected.created < 0 || expected.bytes == 0) return;
  if (!tensor.defined()) {
    throw DeviceError(title_ + " made no tensor where the recorded step has one of " +
                      std::to_string(expected.bytes) + " bytes");
  }
  const auto bytes = static_cast<Bytes>(tensor.storage().nbytes());
  if (bytes != expected.bytes) {
    throw DeviceError(title_ + " made " + std::to_string(bytes) +
                      " bytes where the recorded step has " + std::to_string(expected.bytes));
  }
  made[static_cast<std::size_t>(expected.created)] = tensor.storage();
}

}  // namespace tidemark
