// What the launches share: how many blocks a grid has, and sums over a block in a fixed order.
#pragma once

#include "epilogue.h"

namespace stylegan2_ops {

constexpr int64_t kMostBlocks = 0x7fffffff;  // of a grid

// More blocks than a grid can have take turns.
inline unsigned grid_for(int64_t blocks) { return static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks); }

// Adds up `value` over threadIdx.x (kPlanar) or threadIdx.y; the result is right in the first thread. Always the same
// order, so that results repeat. Ends with a barrier, so that `shared` may be used again.
template <int K, bool kPlanar>
__device__ void block_sum(float (&value)[K], float* shared) {
  const int line = threadIdx.y * blockDim.x + threadIdx.x;
  const int index = kPlanar ? threadIdx.x : threadIdx.y;
  const int stride = kPlanar ? 1 : blockDim.x;
  const int count = kPlanar ? blockDim.x : blockDim.y;
#pragma unroll
  for (int k = 0; k < K; ++k) shared[k * kThreads + line] = value[k];
  __syncthreads();
  int alive = count;
  while (alive > 1) {
    const int half = (alive + 1) / 2;
    if (index + half < alive) {
#pragma unroll
      for (int k = 0; k < K; ++k) shared[k * kThreads + line] += shared[k * kThreads + line + half * stride];
    }
    alive = half;
    __syncthreads();
  }
#pragma unroll
  for (int k = 0; k < K; ++k) value[k] = shared[k * kThreads + line];
  __syncthreads();
}

}  // namespace stylegan2_ops
