// What kernels.h needs of CUDA, for builds that have none: the kernels run on the host then.
#pragma once

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorUnknown = 999 };
using cudaStream_t = void*;
