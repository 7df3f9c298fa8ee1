#include "step_values.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "call_values.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

constexpr double made_deviation = 0.02;

std::vector<std::optional<ScalarType>> element_types(const StepTrace& trace) {
  std::vector<std::optional<ScalarType>> types(trace.storages.size());
  for (const Op& op : trace.ops) {
    if (!op.call) continue;
    for (const CallValue& value : op.call->arguments) {
      for_each_view(value, [&](const TensorView& view) {
        std::optional<ScalarType>& type = types[index(view.storage)];
        if (!type) type = view.dtype;
      });
    }
  }
  return types;
}

void make_values(const Storage& storage, ScalarType type, std::uint8_t* bytes) {
  if (!is_floating_point(type) || storage.role == Role::optimizer_state) {
    std::memset(bytes, 0, static_cast<std::size_t>(storage.bytes));
    return;
  }
  const at::Tensor values = at::from_blob(bytes, {storage.bytes / element_bytes(type)},
                                          at::TensorOptions().dtype(to_torch(type)));
  if (storage.role == Role::buffer) {
    values.uniform_(0.5, 1.5);
  } else {
    values.normal_(0, storage.role == Role::input ? 1.0 : made_deviation);
  }
}

}  // namespace

FillStorage fill_from(const StepTrace& trace, std::vector<StaticValue> values) {
  std::map<std::pair<std::string, Role>, std::vector<std::uint8_t>> known;
  for (StaticValue& value : values) {
    known.emplace(std::pair(std::move(value.name), value.role), std::move(value.bytes));
  }
  const auto shared = std::make_shared<decltype(known)>(std::move(known));
  const auto types = element_types(trace);
  at::manual_seed(static_cast<std::uint64_t>(trace.provenance.seed));
  return [&trace, shared, types](StorageId id, std::uint8_t* bytes) {
    const Storage& storage = trace.storages[index(id)];
    const auto source = shared->find({storage.name, storage.role});
    if (source != shared->end()) {
      if (static_cast<Bytes>(source->second.size()) != storage.bytes) {
        throw InputError("the trace's " + storage.name + " has " + std::to_string(storage.bytes) +
                         " bytes, the model's has " + std::to_string(source->second.size()) +
                         "; give the model that the trace was recorded from");
      }
      std::copy(source->second.begin(), source->second.end(), bytes);
    } else if (storage.value) {
      std::memcpy(bytes, storage.value->data(), storage.value->size());
    } else {
      make_values(storage, types[index(id)].value_or(ScalarType::uint8), bytes);
    }
  };
}

std::vector<StaticValue> values_of(Backend& backend, const std::vector<StaticTensor>& tensors) {
  std::vector<StaticValue> values;
  values.reserve(tensors.size());
  for (const StaticTensor& entry : tensors) {
    values.push_back({entry.name, entry.role, bytes_of(backend, entry.tensor.storage())});
  }
  return values;
}

}  // namespace tidemark
