// The zip container of a .pt2 file: which records it has and where their bytes lie.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tidemark/program.hpp"

namespace tidemark {

class ProgramArchive {
 public:
  // From a file on disk, or from bytes in memory that outlive the archive. Throws InputError.
  [[nodiscard]] static ProgramArchive open_file(const std::string& path);
  [[nodiscard]] static ProgramArchive open_bytes(const std::string& path, const std::string& bytes);

  ProgramArchive(ProgramArchive&&) noexcept;
  ProgramArchive& operator=(ProgramArchive&&) noexcept;
  ~ProgramArchive();

  // Names without the archive's root folder, whatever that is called.
  [[nodiscard]] bool has(const std::string& record) const;
  [[nodiscard]] std::string text(const std::string& record) const;
  // Where a stored record's bytes lie in the file. Deflated records are refused.
  [[nodiscard]] RecordRange range(const std::string& record) const;
  // The first record whose name begins and ends so, in the order of names.
  [[nodiscard]] std::optional<std::string> find(std::string_view prefix,
                                                std::string_view suffix) const;
  [[nodiscard]] const std::string& path() const;

 private:
  struct Contents;
  explicit ProgramArchive(std::unique_ptr<Contents> contents);
  std::unique_ptr<Contents> contents_;
};

}  // namespace tidemark
