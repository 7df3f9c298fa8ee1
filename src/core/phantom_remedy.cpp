#include "tidemark/phantom_remedy.hpp"

#include <algorithm>
#include <array>

namespace tidemark {

namespace {

struct Remedy {
  std::string_view beginning;  // of the calls' names
  std::string_view sentence;
};

constexpr std::array<Remedy, 7> remedies{{
    {"cufft",
     "Fourier transforms (cuFFT) are not covered by a phantom GPU: measure the step without them"},
    {"cusolver",
     "decompositions and inverses (cuSOLVER) are not covered by a phantom GPU: run them on the "
     "CPU, or measure the step without them"},
    {"cusparse",
     "sparse products (cuSPARSE) are not covered by a phantom GPU: measure the step with "
     "dense ones"},
    {"cudnn",
     "this part of cuDNN (recurrent networks, CTC loss, grid sampling) is not covered by a phantom "
     "GPU: within torch.backends.cudnn.flags(enabled=False) kernels of PyTorch's own run, which "
     "take other memory"},
    {"cudaStreamBeginCapture",
     "CUDA graphs are not covered by a phantom GPU: run without them (torch.compile: without "
     "reduce-overhead)"},
    {"cudaMallocAsync",
     "the driver's own pools are not covered by a phantom GPU: leave backend:cudaMallocAsync "
     "out of PYTORCH_ALLOC_CONF"},
    {"the size of",
     "sizes that depend on values are not known without kernels, and what is made of them takes no "
     "memory here: to count it, give it a fixed size (a capacity of each expert)"},
}};

}  // namespace

std::string_view phantom_remedy(std::string_view call_name) {
  for (const Remedy& remedy : remedies) {
    if (call_name.starts_with(remedy.beginning)) return remedy.sentence;
  }
  return "";
}

std::vector<std::string> phantom_remedies(const std::vector<PhantomCall>& calls) {
  std::vector<std::string> all;
  for (const PhantomCall& call : calls) {
    if (call.answer == PhantomAnswer::ignored) continue;
    const std::string sentence{phantom_remedy(call.name)};
    const bool is_new = std::find(all.begin(), all.end(), sentence) == all.end();
    if (!sentence.empty() && is_new) all.push_back(sentence);
  }
  return all;
}

}  // namespace tidemark
