#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/output_place.hpp"

namespace tidemark {

namespace {

constexpr int gzip_window_bits = 15 + 16;  // zlib's way to ask for gzip headers

bool is_gzip(const std::string& content) {
  return content.size() >= 2 && content[0] == '\x1f' && content[1] == '\x8b';
}

std::string inflate_gzip(const std::string& path, const std::string& packed) {
  z_stream stream{};
  if (inflateInit2(&stream, gzip_window_bits) != Z_OK) throw InternalError("inflateInit2 failed");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string content;
  std::string chunk(std::size_t{1} << 18, '\0');
  int status = Z_OK;
  while (status == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
    stream.avail_out = static_cast<uInt>(chunk.size());
    status = inflate(&stream, Z_NO_FLUSH);
    content.append(chunk, 0, chunk.size() - stream.avail_out);
    if (status == Z_BUF_ERROR) break;
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END) {
    throw InputError(path, "", "the gzip data is truncated or damaged; write or copy it again");
  }
  return content;
}

[[noreturn]] void refuse_writing(const std::string& path, const std::string& reason) {
  throw InputError(path, "", "cannot be written: " + reason);
}

// A device or a pipe is written to, never replaced. Throws where a folder stands there.
bool is_written_in_place(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status)) refuse_writing(path, "it is a folder");
  return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
}

// Whether the content all arrived; errno tells why not.
bool write_whole(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  return !file.fail();
}

// The nearest folder above a path that is there.
std::filesystem::path existing_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::absolute(path, error).parent_path();
  while (folder.has_relative_path() && !std::filesystem::exists(folder, error)) {
    folder = folder.parent_path();
  }
  return folder;
}

std::string deflate_gzip(const std::string& content) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, gzip_window_bits, 8,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    throw InternalError("deflateInit2 failed");
  }
  std::string packed(deflateBound(&stream, static_cast<uLong>(content.size())), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  const int status = deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  if (status != Z_STREAM_END) throw InternalError("gzip compression failed");
  return packed;
}

}  // namespace

std::string read_file(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    throw InputError(path, "", "this is a folder; name a file in it");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw InputError(path, "", std::string("cannot be opened: ") + std::strerror(errno));
  }
  std::ostringstream content;
  content << file.rdbuf();
  // An empty file sets the stream's failbit; only a broken read sets badbit.
  if (file.bad()) {
    throw InputError(path, "", std::string("cannot be read: ") + std::strerror(errno));
  }
  std::string bytes = std::move(content).str();
  return is_gzip(bytes) ? inflate_gzip(path, bytes) : bytes;
}

void write_file(const std::string& path, const std::string& content) {
  const std::string packed = path.ends_with(".gz") ? deflate_gzip(content) : content;
  if (is_written_in_place(path)) {
    if (!write_whole(path, packed)) refuse_writing(path, std::strerror(errno));
    return;
  }
  std::error_code error;
  // What a link points to is replaced, not the link.
  const std::string target = std::filesystem::exists(path, error)
                                 ? std::filesystem::canonical(path, error).string()
                                 : path;
  const std::string partial = target + ".partial";
  if (!write_whole(partial, packed)) {
    const std::string reason = std::strerror(errno);
    std::filesystem::remove(partial, error);
    refuse_writing(path, reason);
  }
  std::filesystem::rename(partial, target, error);
  if (error) refuse_writing(path, error.message());
}

void check_writable(const std::string& path) {
  if (is_written_in_place(path)) return;
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::absolute(path, error).parent_path();
  if (!std::filesystem::is_directory(folder, error)) {
    refuse_writing(path, "there is no folder " + folder.string());
  }
  if (access(folder.c_str(), W_OK) != 0) refuse_writing(path, std::strerror(errno));
}

void check_folder(const std::string& path) {
  std::error_code error;
  const std::filesystem::path folder =
      std::filesystem::exists(path, error) ? std::filesystem::path(path) : existing_folder(path);
  if (!std::filesystem::is_directory(folder, error)) {
    throw InputError(path, "", "cannot be made: " + folder.string() + " is no folder");
  }
  if (access(folder.c_str(), W_OK) != 0) {
    throw InputError(path, "", std::string("cannot be written: ") + std::strerror(errno));
  }
}

void make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw InputError(path, "", "cannot be made: " + error.message());
}

}  // namespace tidemark
