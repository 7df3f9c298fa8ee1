#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "temporary_folder.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/output_place.hpp"

namespace tidemark {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;

TEST_CASE("a device or a pipe is written to and stays what it is", "[file]") {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  std::string read;
  std::thread reader([&] {
    std::ifstream file(pipe);
    read.assign(std::istreambuf_iterator<char>(file), {});
  });
  check_writable(pipe);
  write_file(pipe, "written");
  reader.join();
  CHECK(read == "written");
  CHECK(fs::is_fifo(pipe));

  REQUIRE(fs::is_character_file("/dev/full"));
  CHECK_THROWS_WITH(write_file("/dev/full", "lost"),
                    Catch::Contains("/dev/full: cannot be written: No space left"));
  CHECK(fs::is_character_file("/dev/full"));
}

TEST_CASE("a link stays, and what it points to is replaced", "[file]") {
  const TemporaryFolder folder;
  write_file(folder / "file", "old");
  fs::create_symlink("file", folder / "link");
  write_file(folder / "link", "new");
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(read_file(folder / "file") == "new");
}

TEST_CASE("what cannot be written is told before the work, and leaves nothing", "[file]") {
  const TemporaryFolder folder;
  write_file(folder / "file", "");
  CHECK_NOTHROW(check_writable(folder / "new"));
  CHECK_NOTHROW(check_writable(folder / "file"));
  CHECK_NOTHROW(check_folder(folder / "a/b"));
  CHECK_THROWS_AS(check_writable(folder / "missing/new"), InputError);
  CHECK_THROWS_AS(check_writable(folder / ""), InputError);
  CHECK_THROWS_AS(check_folder(folder / "file"), InputError);
  CHECK_THROWS_AS(check_folder(folder / "file/a/b"), InputError);
  CHECK_THROWS_AS(make_folder(folder / "file/a"), InputError);
  CHECK_THROWS_AS(write_file(folder / "missing/new", "x"), InputError);
  CHECK_THROWS_AS(write_file(folder / "", "x"), InputError);
  CHECK(std::distance(fs::directory_iterator(folder / ""), fs::directory_iterator()) == 1);
}

}  // namespace
}  // namespace tidemark
