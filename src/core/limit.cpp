// Which peak a budget limits.
#include <optional>
#include <string_view>

#include "tidemark/planner.hpp"

namespace tidemark {

std::string_view name(Limit value) {
  switch (value) {
    case Limit::live:
      return "live";
    case Limit::allocated:
      return "allocated";
    case Limit::reserved:
      return "reserved";
  }
  return "";
}

std::optional<Bytes> peak_bytes(const StepFigures& figures, Limit limit) {
  switch (limit) {
    case Limit::live:
      return figures.live_peak_bytes;
    case Limit::allocated:
      return figures.allocated_peak_bytes;
    case Limit::reserved:
      return figures.reserved_peak_bytes;
  }
  return std::nullopt;
}

}  // namespace tidemark
