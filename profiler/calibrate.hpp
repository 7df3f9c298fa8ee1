// What a machine really achieves: rates of the kinds of work that a training step is made of.
#pragma once

#include "backend.hpp"
#include "tidemark/time_model.hpp"

namespace tidemark {

struct CalibrationEffort {
  double seconds_per_point = 0.05;  // at least so long does each measurement repeat its call
  // Calls above these are left out: a processor would need minutes for them.
  double longest_call_seconds = 0.1;
  double largest_operations = 0;
  double largest_bytes = 0;
  double cache_bytes = 0;  // more than the device's caches hold
  // Of the sizes of a product, and of attention, every so many-th is measured.
  std::size_t size_step = 1;
  std::size_t attention_step = 1;
  double warm_up_seconds = 0;  // of work before the first measurement: a GPU at rest clocks low
};

// The default effort for a device: under a minute in all.
[[nodiscard]] CalibrationEffort effort_for(const Backend& backend);

// A small call of every kind of work: afterwards libraries and kernels are loaded, as many as a
// training step needs. Throws as calibrate() does.
void load_kernels(Backend& backend);

// Runs each call on the device again and again and takes the time from the first to the last. What
// does not fit or does not exist there is left out, and the rates' notes say so.
// Throws DeviceError where the device computes nothing.
[[nodiscard]] MachineRates calibrate(Backend& backend, const std::string& name, DeviceKind kind,
                                     const CalibrationEffort& effort);

}  // namespace tidemark
