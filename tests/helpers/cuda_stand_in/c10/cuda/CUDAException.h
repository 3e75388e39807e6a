#pragma once

#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

namespace stylegan2_ops {
const char* last_problem();
}
#define C10_CUDA_CHECK(call) TORCH_CHECK((call) == cudaSuccess, stylegan2_ops::last_problem())
