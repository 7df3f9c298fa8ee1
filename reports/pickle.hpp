// Writes what Python's pickle.load reads: plain values in protocol 4, which PyTorch's memory viewer
// takes (it refuses protocol 5). No classes, so nothing runs on loading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark {

// One value is written between construction and finish(); inside a dictionary keys and values
// alternate. Text must be UTF-8. Repeated texts are written once.
class PickleWriter {
 public:
  explicit PickleWriter(std::ostream& out);

  void none();
  void boolean(bool value);
  void integer(std::int64_t value);
  void text(std::string_view value);
  void pair(std::int64_t first, std::int64_t second);  // a tuple

  void open_list();
  void close_list();
  void open_dictionary();
  void close_dictionary();

  void finish();

 private:
  void put(unsigned char byte);
  void put_number(std::uint64_t value, int bytes);
  void put_integer(std::int64_t value);
  void item();

  // The items written since the list's last mark; a dictionary has no batches.
  struct Open {
    bool is_list = false;
    std::size_t items = 0;
  };
  std::ostream& out_;
  std::vector<Open> open_;
  std::map<std::string, std::size_t, std::less<>> known_;
};

}  // namespace tidemark
