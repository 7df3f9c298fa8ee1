#include "schedule_json.hpp"

#include <limits>
#include <utility>

namespace tidemark {

namespace {

constexpr std::int32_t largest_id = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t cause_count = 9;
constexpr std::size_t place_count = 4;

template <typename Id>
std::int32_t number(Id id) {
  return static_cast<std::int32_t>(id);
}

template <typename Id>
OrderedJson numbers(const std::vector<Id>& ids) {
  OrderedJson json = OrderedJson::array();
  for (const Id id : ids) json.push_back(number(id));
  return json;
}

struct StepToJson {
  OrderedJson operator()(const Run& run) const {
    OrderedJson json{{"run", number(run.op)},
                     {"reads", numbers(run.reads)},
                     {"writes", numbers(run.writes)},
                     {"creates", numbers(run.creates)}};
    if (run.gradients == Gradients::off) json["no_grad"] = true;
    return json;
  }
  OrderedJson operator()(const Allocate& allocate) const {
    return OrderedJson{{"allocate", number(allocate.instance)}};
  }
  OrderedJson operator()(const Copy& copy) const {
    return {
        {"copy", number(copy.from)},   {"to", number(copy.to)}, {"from_offset", copy.from_offset},
        {"to_offset", copy.to_offset}, {"bytes", copy.bytes},   {"queue", key(copy.queue)}};
  }
  OrderedJson operator()(const Free& free) const {
    return OrderedJson{{"free", number(free.instance)}};
  }
  OrderedJson operator()(const Wait& wait) const {
    return {{"wait", key(wait.queue)}, {"event", number(wait.event)}};
  }
  OrderedJson operator()(const Collective& collective) const {
    return {{"collective", "all_gather"},
            {"group", collective.group},
            {"inputs", numbers(collective.inputs)},
            {"output", number(collective.output)}};
  }
};

Queue read_queue(const JsonCursor& json) {
  return json.enumeration<Queue>(queue_count, [](Queue queue) { return key(queue); });
}

// -1 stands for an unnamed instance.
InstanceId read_created(const JsonCursor& json) {
  return static_cast<InstanceId>(static_cast<std::int32_t>(json.integer(-1, largest_id)));
}

Step read_step(const JsonCursor& json) {
  Step step;
  step.cause =
      json.at("cause").enumeration<Cause>(cause_count, [](Cause cause) { return key(cause); });
  if (const auto op = json.find("run")) {
    const auto no_grad = json.find("no_grad");
    step.action = Run{.op = op->id<OpId>(),
                      .reads = json.at("reads").ids<InstanceId>(),
                      .writes = json.at("writes").ids<InstanceId>(),
                      .creates = json.at("creates").list<InstanceId>(read_created),
                      .gradients = no_grad && no_grad->boolean() ? Gradients::off : Gradients::on};
  } else if (const auto made = json.find("allocate")) {
    step.action = Allocate{made->id<InstanceId>()};
  } else if (const auto from = json.find("copy")) {
    step.action = Copy{.from = from->id<InstanceId>(),
                       .to = json.at("to").id<InstanceId>(),
                       .from_offset = json.at("from_offset").bytes(),
                       .to_offset = json.at("to_offset").bytes(),
                       .bytes = json.at("bytes").bytes(),
                       .queue = read_queue(json.at("queue"))};
  } else if (const auto freed = json.find("free")) {
    step.action = Free{freed->id<InstanceId>()};
  } else if (const auto queue = json.find("wait")) {
    step.action = Wait{.queue = read_queue(*queue), .event = json.at("event").id<StepId>()};
  } else if (json.find("collective")) {
    step.action = Collective{.kind = CollectiveKind::all_gather,
                             .group = json.at("group").small_integer(0),
                             .inputs = json.at("inputs").ids<InstanceId>(),
                             .output = json.at("output").id<InstanceId>()};
  } else {
    json.fail("is none of the six kinds of step");
  }
  return step;
}

// Whoever replays a schedule looks its ids up without asking; what is not there is found here.
class ReferenceCheck {
 public:
  ReferenceCheck(const Schedule& schedule, const JsonCursor& json)
      : schedule_(schedule), json_(json) {}

  void check() {
    if (static_cast<std::size_t>(schedule_.initial_instances) > schedule_.instances.size()) {
      json_.at("initial_instances").fail("is larger than the number of instances");
    }
    for (step_ = 0; step_ < schedule_.steps.size(); ++step_) {
      std::visit([&](const auto& action) { check(action); }, schedule_.steps[step_].action);
    }
  }

 private:
  [[noreturn]] void fail(const char* problem) const {
    json_.fail("steps[" + std::to_string(step_) + "] " + problem);
  }
  void check(InstanceId id) const {
    if (index(id) >= schedule_.instances.size()) fail("names an instance that is not listed");
  }
  void check(const std::vector<InstanceId>& ids) const {
    for (const InstanceId id : ids) {
      if (id != unnamed_instance) check(id);
    }
  }
  void check(const Run& run) const {
    check(run.reads);
    check(run.writes);
    check(run.creates);
  }
  void check(const Allocate& allocate) const { check(allocate.instance); }
  void check(const Copy& copy) const {
    check(copy.from);
    check(copy.to);
  }
  void check(const Free& free) const { check(free.instance); }
  void check(const Wait& wait) const {
    if (index(wait.event) >= step_) fail("waits for a step that is not an earlier one");
  }
  void check(const Collective& collective) const {
    check(collective.inputs);
    check(collective.output);
  }

  const Schedule& schedule_;
  const JsonCursor& json_;
  std::size_t step_ = 0;
};

}  // namespace

OrderedJson schedule_to_json(const Schedule& schedule) {
  OrderedJson json;
  json["initial_instances"] = schedule.initial_instances;
  json["instances"] = OrderedJson::array();
  for (const Instance& instance : schedule.instances) {
    json["instances"].push_back({{"storage", number(instance.storage)},
                                 {"number", instance.number},
                                 {"bytes", instance.bytes},
                                 {"place", key(instance.place)},
                                 {"term", key(instance.term)}});
  }
  json["steps"] = OrderedJson::array();
  for (const Step& step : schedule.steps) {
    OrderedJson written = std::visit(StepToJson{}, step.action);
    written["cause"] = key(step.cause);
    json["steps"].push_back(std::move(written));
  }
  return json;
}

Schedule read_schedule(const JsonCursor& json) {
  Schedule schedule;
  schedule.initial_instances = json.at("initial_instances").small_integer(0);
  schedule.instances = json.at("instances").list<Instance>([](const JsonCursor& instance) {
    return Instance{.storage = static_cast<StorageId>(
                        static_cast<std::int32_t>(instance.at("storage").integer(-1, largest_id))),
                    .number = instance.at("number").small_integer(0),
                    .bytes = instance.at("bytes").bytes(),
                    .place = instance.at("place").enumeration<Place>(
                        place_count, [](Place place) { return key(place); }),
                    .term = instance.at("term").enumeration<Term>(
                        term_count, [](Term term) { return key(term); })};
  });
  schedule.steps = json.at("steps").list<Step>(read_step);
  ReferenceCheck(schedule, json).check();
  return schedule;
}

}  // namespace tidemark
