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
  const std::string partial = path + ".partial";
  {
    std::ofstream file(partial, std::ios::binary | std::ios::trunc);
    file << (path.ends_with(".gz") ? deflate_gzip(content) : content);
    file.close();
    if (!file) {
      throw InputError(path, "", std::string("cannot be written: ") + std::strerror(errno));
    }
  }
  std::error_code error;
  std::filesystem::rename(partial, path, error);
  if (error) throw InputError(path, "", "cannot be written: " + error.message());
}

}  // namespace tidemark
