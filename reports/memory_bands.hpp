// What the memory of a step consists of over its course, thinned out for a picture.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "step_blocks.hpp"
#include "tidemark/export.hpp"

namespace tidemark {

// One way to tell the bytes on the device apart.
struct BandView {
  std::string name;
  std::vector<std::string> bands;
};

// By what they are at the peak (Term), by the role of their storage, and by block.
[[nodiscard]] std::vector<BandView> band_views(const StepBlocks& blocks);

// A moment of the schedule that is drawn.
struct BandPoint {
  std::size_t step = 0;
  double seconds = 0;  // when it begins; the position of its operator where the trace has no times
  Bytes live_bytes = 0;
  Bytes host_bytes = 0;
  std::vector<std::vector<Bytes>> levels;  // by view, by band; each view sums to live_bytes
};

struct BandPicture {
  std::vector<BandPoint> points;
  std::size_t peak = 0;  // position of the peak among the points: always there, and exact
  bool has_times = false;
  std::vector<double> recompute_seconds;  // by block; the last one is outside the blocks
  std::vector<double> transfer_seconds;
};

// At most `most_points` moments: of each stretch of the schedule its highest and its lowest.
[[nodiscard]] BandPicture draw_bands(const StepTrace& trace, const StepBlocks& blocks,
                                     const Schedule& schedule, std::size_t most_points);

}  // namespace tidemark
