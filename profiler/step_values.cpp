#include "step_values.hpp"

#include <ATen/ATen.h>

#include <cstring>
#include <functional>
#include <map>
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

FillStorage fill_from(const StepTrace& trace, const std::vector<StaticTensor>& tensors) {
  std::map<std::pair<std::string, Role>, c10::Storage> known;
  for (const StaticTensor& entry : tensors) {
    known.emplace(std::pair(entry.name, entry.role), entry.tensor.storage());
  }
  const auto types = element_types(trace);
  at::manual_seed(static_cast<std::uint64_t>(trace.provenance.seed));
  return [&trace, known = std::move(known), types](StorageId id, std::uint8_t* bytes) {
    const Storage& storage = trace.storages[index(id)];
    const auto source = known.find({storage.name, storage.role});
    if (source != known.end()) {
      if (static_cast<Bytes>(source->second.nbytes()) != storage.bytes) {
        throw InputError("the trace's " + storage.name + " has " + std::to_string(storage.bytes) +
                         " bytes, the model's has " + std::to_string(source->second.nbytes()) +
                         "; give the model that the trace was recorded from");
      }
      std::memcpy(bytes, source->second.data(), source->second.nbytes());
    } else if (storage.value) {
      std::memcpy(bytes, storage.value->data(), storage.value->size());
    } else {
      make_values(storage, types[index(id)].value_or(ScalarType::uint8), bytes);
    }
  };
}

}  // namespace tidemark
