#include "pickle.hpp"

#include <limits>
#include <ostream>

namespace tidemark {

namespace {

// As Python's own pickler: readers put a batch on their stack at once.
constexpr std::size_t batch = 1000;

enum Code : unsigned char {
  mark = '(',
  stop = '.',
  get = 'h',
  long_get = 'j',
  four_bytes = 'J',
  one_byte = 'K',
  two_bytes = 'M',
  nothing = 'N',
  long_text = 'X',
  empty_list = ']',
  append_all = 'e',
  set_all = 'u',
  empty_dictionary = '}',
  protocol = 0x80,
  two_tuple = 0x86,
  yes = 0x88,
  no = 0x89,
  long_integer = 0x8a,
  short_text = 0x8c,
  memoize = 0x94,
};

}  // namespace

PickleWriter::PickleWriter(std::ostream& out) : out_(out) {
  put(protocol);
  put(4);
}

void PickleWriter::put(unsigned char byte) { out_.put(static_cast<char>(byte)); }

void PickleWriter::put_number(std::uint64_t value, int bytes) {
  for (int b = 0; b < bytes; ++b) put(static_cast<unsigned char>(value >> (8 * b)));
}

// Before each value: a full batch of a list is closed.
void PickleWriter::item() {
  if (open_.empty() || !open_.back().is_list) return;
  if (open_.back().items == batch) {
    put(append_all);
    put(mark);
    open_.back().items = 0;
  }
  ++open_.back().items;
}

void PickleWriter::none() {
  item();
  put(nothing);
}

void PickleWriter::boolean(bool value) {
  item();
  put(value ? yes : no);
}

void PickleWriter::put_integer(std::int64_t value) {
  if (value >= 0 && value <= 0xff) {
    put(one_byte);
    put_number(static_cast<std::uint64_t>(value), 1);
  } else if (value >= 0 && value <= 0xffff) {
    put(two_bytes);
    put_number(static_cast<std::uint64_t>(value), 2);
  } else if (value >= std::numeric_limits<std::int32_t>::min() &&
             value <= std::numeric_limits<std::int32_t>::max()) {
    put(four_bytes);
    put_number(static_cast<std::uint64_t>(value), 4);
  } else {
    put(long_integer);
    put(8);
    put_number(static_cast<std::uint64_t>(value), 8);
  }
}

void PickleWriter::integer(std::int64_t value) {
  item();
  put_integer(value);
}

void PickleWriter::text(std::string_view value) {
  item();
  if (const auto known = known_.find(value); known != known_.end()) {
    const bool is_short = known->second <= 0xff;
    put(is_short ? get : long_get);
    put_number(known->second, is_short ? 1 : 4);
    return;
  }
  const bool is_short = value.size() <= 0xff;
  put(is_short ? short_text : long_text);
  put_number(value.size(), is_short ? 1 : 4);
  out_.write(value.data(), static_cast<std::streamsize>(value.size()));
  put(memoize);
  known_.emplace(value, known_.size());
}

void PickleWriter::pair(std::int64_t first, std::int64_t second) {
  item();
  put_integer(first);
  put_integer(second);
  put(two_tuple);
}

void PickleWriter::open_list() {
  item();
  put(empty_list);
  put(mark);
  open_.push_back({.is_list = true, .items = 0});
}

void PickleWriter::close_list() {
  put(append_all);
  open_.pop_back();
}

void PickleWriter::open_dictionary() {
  item();
  put(empty_dictionary);
  put(mark);
  open_.push_back({.is_list = false, .items = 0});
}

void PickleWriter::close_dictionary() {
  put(set_all);
  open_.pop_back();
}

void PickleWriter::finish() { put(stop); }

}  // namespace tidemark
