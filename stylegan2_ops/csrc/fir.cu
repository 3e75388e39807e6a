// Launches of the upfirdn2d kernels.
#include "block_sum.h"
#include "kernels.h"

namespace stylegan2_ops {
namespace {

// Blocks of a multiprocessor: as many as leave each thread the registers that it needs.
template <int V, bool kEpilogue>
constexpr int blocks_at_once() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900
  return V == 1 ? 3 : 2;
#else
  return V == 1 && !kEpilogue ? 3 : 2;
#endif
}

template <typename T, int kUp, int kDown, int V, bool kEpilogue>
__global__ void __launch_bounds__(kThreads, blocks_at_once<V, kEpilogue>())
    fir4_kernel(FirPlan plan, Epilogue e, const float* __restrict__ taps, const T* __restrict__ x, T* __restrict__ y) {
  fir4_thread<T, kUp, kDown, V, kEpilogue>(plan, e, taps, x, y, int64_t{blockIdx.x} * kThreads + threadIdx.x);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    fir_any_kernel(FirPlan plan, const float* __restrict__ taps, const T* __restrict__ x, T* __restrict__ y) {
  fir_any_thread<T>(plan, taps, x, y, int64_t{blockIdx.x} * kThreads + threadIdx.x);
}

template <typename T, int kUp, int kDown, bool kEpilogue>
void launch4(const FirPlan& plan, const Epilogue& e, const float* taps, const T* x, T* y, unsigned blocks,
             cudaStream_t stream) {
  constexpr int kLong = vector_length<T>();
  if (plan.vector == kLong) {
    fir4_kernel<T, kUp, kDown, kLong, kEpilogue><<<blocks, kThreads, 0, stream>>>(plan, e, taps, x, y);
  } else {
    fir4_kernel<T, kUp, kDown, 1, kEpilogue><<<blocks, kThreads, 0, stream>>>(plan, e, taps, x, y);
  }
}

template <typename T>
cudaError_t launch(const FirShape& s, const float* taps, const Epilogue* e, const T* x, T* y, cudaStream_t stream) {
  const FirPlan plan = plan_fir(s, vector_length<T>(), x, y, e);
  if (e && !(plan.fast && s.up == 1 && s.down == 1)) return cudaErrorInvalidValue;
  if (plan.threads == 0) return cudaSuccess;
  const int64_t blocks = ceil_div(plan.threads, kThreads);
  if (blocks > kMostBlocks) return cudaErrorInvalidConfiguration;
  const unsigned grid = static_cast<unsigned>(blocks);
  const Epilogue none{};
  if (!plan.fast) {
    fir_any_kernel<T><<<grid, kThreads, 0, stream>>>(plan, taps, x, y);
  } else if (e) {
    launch4<T, 1, 1, true>(plan, *e, taps, x, y, grid, stream);
  } else if (s.up == 2) {
    launch4<T, 2, 1, false>(plan, none, taps, x, y, grid, stream);
  } else if (s.down == 2) {
    launch4<T, 1, 2, false>(plan, none, taps, x, y, grid, stream);
  } else {
    launch4<T, 1, 1, false>(plan, none, taps, x, y, grid, stream);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t fir(Type type, const FirShape& shape, const float* taps, const Epilogue* e, const void* x, void* y,
                cudaStream_t stream) {
  return with_type(type, [&](auto t) {
    using T = decltype(t);
    return launch<T>(shape, taps, e, static_cast<const T*>(x), static_cast<T*>(y), stream);
  });
}

}  // namespace stylegan2_ops
