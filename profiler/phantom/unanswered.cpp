#include "unanswered.hpp"

namespace tidemark::phantom {

int Unanswered::reached(int status) {
  count(status == 0 ? Answer::ignored : Answer::refused);
  return status;
}

void Unanswered::modelled() { count(Answer::modelled); }

void Unanswered::count(Answer answer) { tidemark_phantom_count(name_, answer, &record_); }

}  // namespace tidemark::phantom
