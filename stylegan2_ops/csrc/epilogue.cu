// Launches of the epilogue kernels.
#include <type_traits>

#include "block_sum.h"
#include "kernels.h"

namespace stylegan2_ops {
namespace {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kBlocksAtOnce = 2;  // of a multiprocessor; there the compiler needs more registers than three leave
#else
constexpr int kBlocksAtOnce = 3;
#endif

template <typename T, int V, bool kPlanar>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    forward_kernel(EpiloguePlan plan, Epilogue e, const T* __restrict__ x, T* __restrict__ y) {
  for (int64_t block = blockIdx.x; block < plan.blocks; block += gridDim.x) {
    epilogue_forward_thread<T, V, kPlanar>(plan, e, x, y, block, threadIdx.x, threadIdx.y);
  }
}

template <int K>
__device__ void store_partial(float* partial, const float (&value)[K]) {
#pragma unroll
  for (int k = 0; k < K; ++k) partial[k] = value[k];
}

template <typename T, int V, bool kPlanar, bool kSums>
__global__ void __launch_bounds__(kThreads, kSums ? 2 : kBlocksAtOnce)
    backward_kernel(EpiloguePlan plan, Epilogue e, const T* __restrict__ grad, const T* __restrict__ saved,
                    bool saved_is_output, bool keep_du, T* __restrict__ dx, float* __restrict__ partial) {
  constexpr int K = kPlanar ? 1 : V;
  __shared__ float shared[kSums ? K * kThreads : 1];
  for (int64_t block = blockIdx.x; block < plan.blocks; block += gridDim.x) {
    Sums<K> sums = epilogue_backward_thread<T, V, kPlanar, kSums>(plan, e, grad, saved, saved_is_output, keep_du, dx,
                                                                  block, threadIdx.x, threadIdx.y);
    if (!kSums) continue;
    block_sum<K, kPlanar>(sums.bias, shared);
    block_sum<K, kPlanar>(sums.scale, shared);
    block_sum<K, kPlanar>(sums.strength, shared);
    if ((kPlanar ? threadIdx.x : threadIdx.y) == 0) {
      const Walk w = walk<kPlanar>(plan, block, threadIdx.x, threadIdx.y);
      if (w.count == 0) continue;
      const int64_t size = plan.shape.n * plan.shape.c * epilogue_chunks(plan);
      float* place = partial + partial_index(plan, w);
      store_partial(place, sums.bias);
      store_partial(place + size, sums.scale);
      store_partial(place + 2 * size, sums.strength);
    }
  }
}

// Calls f(integral constants for the vector length and the layout).
template <typename T, typename F>
void with_layout(const EpiloguePlan& plan, F f) {
  constexpr int kLong = vector_length<T>();
  if (plan.shape.planar) {
    if (plan.vector == kLong) f(std::integral_constant<int, kLong>(), std::true_type());
    else f(std::integral_constant<int, 1>(), std::true_type());
  } else {
    if (plan.vector == kLong) f(std::integral_constant<int, kLong>(), std::false_type());
    else f(std::integral_constant<int, 1>(), std::false_type());
  }
}

}  // namespace

EpiloguePlan plan_epilogue_for(Type type, const EpilogueShape& shape, const Epilogue& e, const void* a, const void* b,
                               const void* c) {
  return with_type(type, [&](auto t) { return plan_epilogue(shape, vector_length<decltype(t)>(), e, a, b, c); });
}

cudaError_t epilogue_forward(const EpiloguePlan& plan, Type type, const Epilogue& e, const void* x, void* y,
                             cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  const dim3 threads(plan.tx, plan.ty);
  with_type(type, [&](auto t) {
    using T = decltype(t);
    with_layout<T>(plan, [&](auto v, auto planar) {
      forward_kernel<T, v(), planar()><<<grid_for(plan.blocks), threads, 0, stream>>>(
          plan, e, static_cast<const T*>(x), static_cast<T*>(y));
    });
  });
  return cudaGetLastError();
}

cudaError_t epilogue_backward(const EpiloguePlan& plan, Type type, const Epilogue& e, const void* grad,
                              const void* saved, bool saved_is_output, bool keep_du, void* dx, float* partial,
                              cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  const dim3 threads(plan.tx, plan.ty);
  with_type(type, [&](auto t) {
    using T = decltype(t);
    with_layout<T>(plan, [&](auto v, auto planar) {
      auto launch = [&](auto sums) {
        backward_kernel<T, v(), planar(), sums()><<<grid_for(plan.blocks), threads, 0, stream>>>(
            plan, e, static_cast<const T*>(grad), static_cast<const T*>(saved), saved_is_output, keep_du,
            static_cast<T*>(dx), partial);
      };
      if (partial) launch(std::true_type());
      else launch(std::false_type());
    });
  });
  return cudaGetLastError();
}

}  // namespace stylegan2_ops
