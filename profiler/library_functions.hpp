// Functions of a library that is opened at run time and may lack some of them.
#pragma once

#include <dlfcn.h>

#include <type_traits>

namespace tidemark {

class LibraryFunctions {
 public:
  explicit LibraryFunctions(void* library) : library_(library) {}

  // nullptr where there is none of that name.
  template <typename Function>
  void find(Function& function, const char* name) {
    static_assert(std::is_pointer_v<Function>);
    function = reinterpret_cast<Function>(dlsym(library_, name));
    is_complete_ = is_complete_ && function != nullptr;
  }

  // Whether all that were looked for are there.
  [[nodiscard]] bool is_complete() const { return is_complete_; }

 private:
  void* library_;
  bool is_complete_ = true;
};

}  // namespace tidemark
