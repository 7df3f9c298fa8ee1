// Where results go. A file that write_file() writes is there whole or not at all; a device or a pipe,
// /dev/stdout say, is written to and stays what it is.
#pragma once

#include <string>

namespace tidemark {

// Before work whose result would be lost: whether that file, or files in that folder (which need
// not be there yet), could be written, as far as can be told. Throw InputError.
void check_writable(const std::string& path);
void check_folder(const std::string& path);

// With the folders above it. Throws InputError.
void make_folder(const std::string& path);

}  // namespace tidemark
