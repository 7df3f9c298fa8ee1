// Finding the repeated blocks of a model: in its module tree, by a pattern, or, without a usable
// tree, at the graph's cut points.
#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "module_path.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {

namespace {

// More blocks than this at cut points would only be more groupings of the same kind.
constexpr std::size_t most_cut_blocks = 16;

struct Node {
  std::string path;
  std::string class_name;
  std::vector<std::size_t> children;  // in the order of their first operator
  std::vector<std::size_t> ops;       // forward operators of the module and all below it
};

std::string parent_of(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

// The module tree with each module's forward operators. Node 0 is the root, path "".
class ModuleTree {
 public:
  explicit ModuleTree(const StepTrace& trace) : trace_(trace) {
    add("", "");
    for (const Module& module : trace.modules) add(module.path, module.class_name);
    for (std::size_t o = 0; o < trace.ops.size(); ++o) {
      if (trace.ops[o].phase != Phase::forward) continue;
      for (std::string path = trace.ops[o].module;; path = parent_of(path)) {
        nodes_[add(path, "")].ops.push_back(o);
        if (path.empty()) break;
      }
    }
    for (Node& node : nodes_) {
      std::stable_sort(node.children.begin(), node.children.end(),
                       [&](std::size_t a, std::size_t b) { return first_op(a) < first_op(b); });
    }
    find_makers();
  }

  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  [[nodiscard]] Block block(std::size_t n) const {
    const Node& node = nodes_[n];
    return {.name = node.path,
            .first = make_id<OpId>(node.ops.front()),
            .last = make_id<OpId>(node.ops.back())};
  }
  // The second one reads what the first one made, directly or through operators of the parent's own
  // forward between them.
  [[nodiscard]] bool consumes(std::size_t later, std::size_t earlier) const;

 private:
  std::size_t add(const std::string& path, const std::string& class_name) {
    const auto [found, is_new] = by_path_.emplace(path, nodes_.size());
    if (is_new) {
      nodes_.push_back({.path = path, .class_name = class_name, .children = {}, .ops = {}});
      if (!path.empty()) nodes_[add(parent_of(path), "")].children.push_back(found->second);
    }
    Node& node = nodes_[found->second];
    if (node.class_name.empty()) node.class_name = class_name;
    return found->second;
  }
  [[nodiscard]] std::size_t first_op(std::size_t n) const {
    return nodes_[n].ops.empty() ? trace_.ops.size() : nodes_[n].ops.front();
  }
  void find_makers() {
    maker_.assign(trace_.storages.size(), trace_.ops.size());
    for (std::size_t o = 0; o < trace_.ops.size(); ++o) {
      for (const StorageId id : trace_.ops[o].creates) maker_[index(id)] = o;
    }
  }

  const StepTrace& trace_;
  std::vector<Node> nodes_;
  std::map<std::string, std::size_t> by_path_;
  std::vector<std::size_t> maker_;
};

bool ModuleTree::consumes(std::size_t later, std::size_t earlier) const {
  const Node& from = nodes_[earlier];
  const Node& to = nodes_[later];
  if (from.ops.back() >= to.ops.front()) return false;
  const std::string parent = parent_of(to.path);
  std::set<std::size_t> carriers(from.ops.begin(), from.ops.end());
  const auto reads_a_carrier = [&](std::size_t o) {
    const Op& op = trace_.ops[o];
    return std::any_of(op.reads.begin(), op.reads.end(),
                       [&](StorageId id) { return carriers.contains(maker_[index(id)]); });
  };
  for (std::size_t o = from.ops.back() + 1; o < to.ops.front(); ++o) {
    if (trace_.ops[o].module == parent && reads_a_carrier(o)) carriers.insert(o);
  }
  return std::any_of(to.ops.begin(), to.ops.end(), reads_a_carrier);
}

using Family = std::vector<std::size_t>;

// Children of one parent that are of one class, have submodules, and form a chain.
std::vector<Family> families_of(const ModuleTree& tree, std::size_t parent) {
  std::vector<std::pair<std::string, Family>> by_class;
  for (const std::size_t child : tree.nodes()[parent].children) {
    const Node& node = tree.nodes()[child];
    if (node.ops.empty() || node.children.empty() || node.class_name.empty()) continue;
    const auto same = std::find_if(by_class.begin(), by_class.end(), [&](const auto& entry) {
      return entry.first == node.class_name;
    });
    if (same == by_class.end()) {
      by_class.push_back({node.class_name, {child}});
    } else {
      same->second.push_back(child);
    }
  }
  std::vector<Family> families;
  for (auto& [class_name, members] : by_class) {
    bool is_chain = members.size() >= 2;
    for (std::size_t i = 1; i < members.size() && is_chain; ++i) {
      is_chain = tree.consumes(members[i], members[i - 1]);
    }
    if (is_chain) families.push_back(std::move(members));
  }
  return families;
}

std::size_t count_ops(const ModuleTree& tree, const std::vector<Family>& families) {
  std::size_t count = 0;
  for (const Family& family : families) {
    for (const std::size_t member : family) count += tree.nodes()[member].ops.size();
  }
  return count;
}

// The deepest families below a module. A family gives way to those inside its members when they
// hold more than half of its operators: ResNet's stages give way to their bottlenecks, but inverted
// residuals do not give way to the two convolutions that happen to be chained in some of them.
std::vector<Family> deepest_families(const ModuleTree& tree, std::size_t parent) {
  const std::vector<Family> here = families_of(tree, parent);
  std::vector<Family> found;
  std::set<std::size_t> members;
  for (const Family& family : here) {
    std::vector<Family> inside;
    for (const std::size_t member : family) {
      members.insert(member);
      const std::vector<Family> deeper = deepest_families(tree, member);
      inside.insert(inside.end(), deeper.begin(), deeper.end());
    }
    if (2 * count_ops(tree, inside) > count_ops(tree, {family})) {
      found.insert(found.end(), inside.begin(), inside.end());
    } else {
      found.push_back(family);
    }
  }
  for (const std::size_t child : tree.nodes()[parent].children) {
    if (members.contains(child)) continue;
    const std::vector<Family> deeper = deepest_families(tree, child);
    found.insert(found.end(), deeper.begin(), deeper.end());
  }
  return found;
}

std::vector<BlockRun> runs_of(const ModuleTree& tree, const std::vector<Family>& families) {
  std::vector<BlockRun> runs;
  for (const Family& family : families) {
    BlockRun run;
    for (const std::size_t member : family) run.blocks.push_back(tree.block(member));
    runs.push_back(std::move(run));
  }
  std::sort(runs.begin(), runs.end(), [](const BlockRun& a, const BlockRun& b) {
    return a.blocks.front().first < b.blocks.front().first;
  });
  // Towers that run in turns cannot both be cut into segments of one order: the first one stays.
  std::vector<BlockRun> apart;
  for (BlockRun& run : runs) {
    if (apart.empty() || apart.back().blocks.back().last < run.blocks.front().first) {
      apart.push_back(std::move(run));
    }
  }
  return apart;
}

// As a shell's, by dotted names: `*` and `?` do not cross a dot, `**` does.
bool matches(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern.starts_with("**")) {
    for (std::size_t skip = 0; skip <= text.size(); ++skip) {
      if (matches(pattern.substr(2), text.substr(skip))) return true;
    }
    return false;
  }
  if (pattern.front() == '*') {
    for (std::size_t skip = 0; skip <= text.size(); ++skip) {
      if (matches(pattern.substr(1), text.substr(skip))) return true;
      if (skip < text.size() && text[skip] == '.') return false;
    }
    return false;
  }
  if (text.empty()) return false;
  const bool fits =
      pattern.front() == text.front() || (pattern.front() == '?' && text.front() != '.');
  return fits && matches(pattern.substr(1), text.substr(1));
}

// The named modules, the outer one of two that lie in each other; a run for each parent.
std::vector<BlockRun> runs_by_pattern(const ModuleTree& tree, const std::string& glob) {
  std::map<std::string, Family> by_parent;
  std::vector<std::string> taken;
  for (std::size_t n = 1; n < tree.nodes().size(); ++n) {
    const Node& node = tree.nodes()[n];
    if (node.ops.empty() || !matches(glob, node.path)) continue;
    const bool is_nested =
        std::any_of(tree.nodes().begin() + 1, tree.nodes().end(), [&](const Node& other) {
          return other.path != node.path && is_inside(node.path, other.path) &&
                 matches(glob, other.path);
        });
    if (!is_nested) by_parent[parent_of(node.path)].push_back(n);
  }
  std::vector<Family> families;
  for (auto& [parent, family] : by_parent) {
    std::sort(family.begin(), family.end(), [&](std::size_t a, std::size_t b) {
      return tree.nodes()[a].ops.front() < tree.nodes()[b].ops.front();
    });
    // A module that runs inside another's range (called from two places) cannot be a block.
    Family apart;
    for (const std::size_t n : family) {
      if (apart.empty() || tree.nodes()[apart.back()].ops.back() < tree.nodes()[n].ops.front()) {
        apart.push_back(n);
      }
    }
    families.push_back(std::move(apart));
  }
  return runs_of(tree, families);
}

// Positions after which a single activation is carried on in forward.
std::vector<std::size_t> cut_points(const StepTrace& trace) {
  const std::vector<bool> is_static = static_storages(trace);
  std::vector<std::size_t> last_read(trace.storages.size(), 0);
  std::size_t forward_ops = 0;
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    const Op& op = trace.ops[o];
    if (op.phase != Phase::forward) continue;
    forward_ops = o + 1;
    for (const StorageId id : op.reads) last_read[index(id)] = o;
    for (const StorageId id : op.writes) last_read[index(id)] = o;
  }
  std::vector<std::size_t> cuts;
  std::multiset<std::size_t> carried;  // last reads of what is alive
  for (std::size_t o = 0; o < forward_ops; ++o) {
    for (const StorageId id : trace.ops[o].creates) {
      if (!is_static[index(id)] && last_read[index(id)] > o) carried.insert(last_read[index(id)]);
    }
    carried.erase(carried.begin(), carried.upper_bound(o));
    if (carried.size() == 1) cuts.push_back(o);
  }
  return cuts;
}

std::vector<BlockRun> runs_between_cuts(const StepTrace& trace) {
  const std::vector<std::size_t> cuts = cut_points(trace);
  if (cuts.size() < 3) return {};
  const std::size_t pieces = cuts.size() - 1;
  const std::size_t blocks = std::min(pieces, most_cut_blocks);
  BlockRun run;
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t first = cuts[b * pieces / blocks] + 1;
    const std::size_t last = cuts[(b + 1) * pieces / blocks];
    run.blocks.push_back({.name = "ops " + std::to_string(first) + "-" + std::to_string(last),
                          .first = make_id<OpId>(first),
                          .last = make_id<OpId>(last)});
  }
  return {run};
}

}  // namespace

std::vector<BlockRun> find_blocks(const StepTrace& trace, const std::optional<std::string>& glob) {
  const ModuleTree tree(trace);
  if (glob) return runs_by_pattern(tree, *glob);
  std::vector<BlockRun> runs = runs_of(tree, deepest_families(tree, 0));
  return runs.empty() ? runs_between_cuts(trace) : runs;
}

}  // namespace tidemark
