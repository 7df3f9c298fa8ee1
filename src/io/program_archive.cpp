#include "program_archive.hpp"

#include <zip.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <functional>
#include <utility>

#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

// A model's description is text; larger ones are damage or a trap.
constexpr std::uint64_t most_text_bytes = std::uint64_t{1} << 30;
// Zip local file header: 30 fixed bytes, then the name and an extra field (PKWARE APPNOTE 4.3.7).
constexpr std::size_t local_header_bytes = 30;
constexpr std::size_t name_length_at = 26;
constexpr std::size_t extra_length_at = 28;

std::uint64_t little_endian_16(const unsigned char* bytes) {
  return static_cast<std::uint64_t>(bytes[0]) | static_cast<std::uint64_t>(bytes[1]) << 8;
}

}  // namespace

struct ProgramArchive::Contents {
  struct Entry {
    zip_uint64_t number = 0;
    std::uint64_t bytes = 0;
    bool is_stored = true;
  };

  std::string path;
  zip_t* zip = nullptr;
  std::map<std::string, Entry> entries;
  // Reads raw bytes of the container at an offset; false past its end.
  std::function<bool(std::uint64_t, char*, std::size_t)> read_raw;
  std::uint64_t container_bytes = 0;
  // Offsets of the local headers by record, from the central directory.
  std::map<std::string, std::uint64_t> header_offsets;

  Contents() = default;
  Contents(const Contents&) = delete;
  Contents& operator=(const Contents&) = delete;
  ~Contents() {
    if (zip != nullptr) zip_discard(zip);
  }

  [[noreturn]] void refuse(const std::string& place, const std::string& problem) const {
    throw InputError(path, place, problem);
  }
  void list_entries();
  void read_central_directory(const std::string& root);
  const Entry& entry(const std::string& record) const {
    const auto found = entries.find(record);
    if (found == entries.end()) {
      refuse(record, "this record is missing; write the file again with torch.export.save");
    }
    return found->second;
  }
};

// Every record lies below one folder, named after the file or "archive".
void ProgramArchive::Contents::list_entries() {
  const zip_int64_t count = zip_get_num_entries(zip, 0);
  if (count <= 0) refuse("", "the archive is empty; write it again with torch.export.save");
  std::string root;
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    if (zip_stat_index(zip, static_cast<zip_uint64_t>(i), 0, &stat) != 0 || stat.name == nullptr) {
      refuse("record " + std::to_string(i), "the archive's directory is damaged");
    }
    const std::string name = stat.name;
    const std::size_t slash = name.find('/');
    if (slash == std::string::npos) continue;
    root = name.substr(0, slash);
    const bool is_stored =
        (stat.valid & ZIP_STAT_COMP_METHOD) == 0 || stat.comp_method == ZIP_CM_STORE;
    entries[name.substr(slash + 1)] = {.number = static_cast<zip_uint64_t>(i),
                                       .bytes = (stat.valid & ZIP_STAT_SIZE) != 0 ? stat.size : 0,
                                       .is_stored = is_stored};
  }
  read_central_directory(root);
}

// libzip tells no offsets, so the central directory is read once more: the end record (with its
// 64-bit form) and the fixed part of every entry.
void ProgramArchive::Contents::read_central_directory(const std::string& root) {
  const auto number = [](const char* at, int bytes) {
    std::uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; --i) {
      value = value << 8 | static_cast<unsigned char>(at[i]);
    }
    return value;
  };
  const std::size_t tail_bytes =
      static_cast<std::size_t>(std::min<std::uint64_t>(container_bytes, 65536 + 22 + 20));
  std::string tail(tail_bytes, '\0');
  if (!read_raw(container_bytes - tail_bytes, tail.data(), tail_bytes)) return;
  const std::size_t end = tail.rfind("PK\x05\x06");
  if (end == std::string::npos || end + 22 > tail.size()) return;
  std::uint64_t size = number(&tail[end + 12], 4);
  std::uint64_t offset = number(&tail[end + 16], 4);
  if (end >= 20 && std::memcmp(&tail[end - 20], "PK\x06\x07", 4) == 0) {
    std::array<char, 56> wide{};
    if (read_raw(number(&tail[end - 12], 8), wide.data(), wide.size()) &&
        std::memcmp(wide.data(), "PK\x06\x06", 4) == 0) {
      size = number(&wide[40], 8);
      offset = number(&wide[48], 8);
    }
  }
  if (size > most_text_bytes || offset > container_bytes || size > container_bytes - offset) return;
  std::string directory(static_cast<std::size_t>(size), '\0');
  if (!read_raw(offset, directory.data(), directory.size())) return;
  std::size_t at = 0;
  while (at + 46 <= directory.size() && std::memcmp(&directory[at], "PK\x01\x02", 4) == 0) {
    const std::size_t name_bytes = number(&directory[at + 28], 2);
    const std::size_t extra_bytes = number(&directory[at + 30], 2);
    const std::size_t comment_bytes = number(&directory[at + 32], 2);
    std::uint64_t header = number(&directory[at + 42], 4);
    if (at + 46 + name_bytes + extra_bytes > directory.size()) return;
    const std::string name = directory.substr(at + 46, name_bytes);
    if (header == 0xffffffffu) {
      // The 64-bit offset is the last of those numbers that did not fit into the fixed part.
      const std::size_t extra = at + 46 + name_bytes;
      const std::size_t wide = (number(&directory[at + 24], 4) == 0xffffffffu ? 8u : 0u) +
                               (number(&directory[at + 20], 4) == 0xffffffffu ? 8u : 0u);
      for (std::size_t field = extra; field + 4 <= extra + extra_bytes;) {
        const std::size_t field_bytes = number(&directory[field + 2], 2);
        if (number(&directory[field], 2) == 1 && field_bytes >= wide + 8 &&
            field + 4 + wide + 8 <= directory.size()) {
          header = number(&directory[field + 4 + wide], 8);
        }
        field += 4 + field_bytes;
      }
    }
    if (name.size() > root.size() + 1) header_offsets[name.substr(root.size() + 1)] = header;
    at += 46 + name_bytes + extra_bytes + comment_bytes;
  }
}

ProgramArchive::ProgramArchive(std::unique_ptr<Contents> contents)
    : contents_(std::move(contents)) {}
ProgramArchive::ProgramArchive(ProgramArchive&&) noexcept = default;
ProgramArchive& ProgramArchive::operator=(ProgramArchive&&) noexcept = default;
ProgramArchive::~ProgramArchive() = default;

ProgramArchive ProgramArchive::open_file(const std::string& path) {
  auto contents = std::make_unique<Contents>();
  contents->path = path;
  int code = 0;
  contents->zip = zip_open(path.c_str(), ZIP_RDONLY, &code);
  if (contents->zip == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    contents->refuse(
        "", "cannot be opened as an archive (" + reason + "); write it with torch.export.save");
  }
  const auto file = std::make_shared<std::ifstream>(path, std::ios::binary | std::ios::ate);
  contents->container_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(0, file->tellg()));
  contents->read_raw = [file](std::uint64_t offset, char* to, std::size_t bytes) {
    file->clear();
    file->seekg(static_cast<std::streamoff>(offset));
    file->read(to, static_cast<std::streamsize>(bytes));
    return static_cast<std::size_t>(file->gcount()) == bytes;
  };
  contents->list_entries();
  return ProgramArchive(std::move(contents));
}

ProgramArchive ProgramArchive::open_bytes(const std::string& path, const std::string& bytes) {
  auto contents = std::make_unique<Contents>();
  contents->path = path;
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
  if (source != nullptr) contents->zip = zip_open_from_source(source, ZIP_RDONLY, &error);
  if (contents->zip == nullptr) {
    const std::string reason = zip_error_strerror(&error);
    if (source != nullptr) zip_source_free(source);
    zip_error_fini(&error);
    contents->refuse(
        "", "cannot be opened as an archive (" + reason + "); write it with torch.export.save");
  }
  zip_error_fini(&error);
  contents->container_bytes = bytes.size();
  contents->read_raw = [&bytes](std::uint64_t offset, char* to, std::size_t count) {
    if (offset > bytes.size() || count > bytes.size() - offset) return false;
    std::memcpy(to, bytes.data() + offset, count);
    return true;
  };
  contents->list_entries();
  return ProgramArchive(std::move(contents));
}

const std::string& ProgramArchive::path() const { return contents_->path; }

bool ProgramArchive::has(const std::string& record) const {
  return contents_->entries.contains(record);
}

std::string ProgramArchive::text(const std::string& record) const {
  const Contents::Entry& entry = contents_->entry(record);
  if (entry.bytes > most_text_bytes)
    contents_->refuse(record, "is larger than a description can be");
  std::string text(static_cast<std::size_t>(entry.bytes), '\0');
  zip_file_t* file = zip_fopen_index(contents_->zip, entry.number, 0);
  std::size_t done = 0;
  while (file != nullptr && done < text.size()) {
    const zip_int64_t count = zip_fread(file, text.data() + done, text.size() - done);
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  // Closing compares the checksum, and must come to pass in any case.
  const bool is_closed = file != nullptr && zip_fclose(file) == 0;
  if (!is_closed || done != text.size())
    contents_->refuse(record, "is damaged; write or copy the file again");
  return text;
}

RecordRange ProgramArchive::range(const std::string& record) const {
  const Contents::Entry& entry = contents_->entry(record);
  if (!entry.is_stored) {
    contents_->refuse(record,
                      "is compressed; weights must be stored as torch.export.save stores them");
  }
  if (entry.bytes == 0) return {};
  const auto header = contents_->header_offsets.find(record);
  std::array<unsigned char, local_header_bytes> fixed{};
  const bool is_readable =
      header != contents_->header_offsets.end() &&
      contents_->read_raw(header->second, reinterpret_cast<char*>(fixed.data()), fixed.size()) &&
      std::memcmp(fixed.data(), "PK\x03\x04", 4) == 0;
  if (!is_readable) contents_->refuse(record, "its place in the archive is damaged");
  const RecordRange range{.offset = header->second + local_header_bytes +
                                    little_endian_16(&fixed[name_length_at]) +
                                    little_endian_16(&fixed[extra_length_at]),
                          .bytes = entry.bytes};
  if (range.offset > contents_->container_bytes ||
      range.bytes > contents_->container_bytes - range.offset) {
    contents_->refuse(record, "reaches past the end of the file; it is truncated");
  }
  return range;
}

std::optional<std::string> ProgramArchive::find(std::string_view prefix,
                                                std::string_view suffix) const {
  for (const auto& [name, entry] : contents_->entries) {
    if (name.starts_with(prefix) && name.ends_with(suffix)) return name;
  }
  return std::nullopt;
}

}  // namespace tidemark
