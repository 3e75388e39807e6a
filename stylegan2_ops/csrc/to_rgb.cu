// Launch of the kernel that ends a resolution.
#include "block_sum.h"
#include "kernels.h"

namespace stylegan2_ops {
namespace {

template <typename T, int V>
__global__ void __launch_bounds__(kThreads, 2)
    to_rgb_kernel(ToRgbPlan plan, Epilogue e, ToRgb rgb, const T* __restrict__ x, T* __restrict__ y,
                  float* __restrict__ image) {
  __shared__ float shared[kInFlight * kColours * kThreads];
  const int tx = threadIdx.x, ty = threadIdx.y;
  const Walk w = walk<false>(plan.pass, blockIdx.x, tx, ty);
  const int most = walk<false>(plan.pass, blockIdx.x, 0, 0).count;  // the same for all: there are barriers within
  ToRgbColumn<V> column(e, rgb, w.n, w.c);
  for (int j = 0; j < most; j += kInFlight) {
    Colours colours{};
    for (int turn = 0; turn < plan.turns; ++turn) {
      const int group = turn * plan.pass.tx + tx;
      if (group >= plan.pass.groups) break;
      if (plan.turns > 1) column = ToRgbColumn<V>(e, rgb, w.n, group * V);
      to_rgb_pixels<T, V>(e, column, w, turn * plan.pass.tx * V, j, x, y, colours);
    }
    block_sum<kInFlight * kColours, true>(colours.sum, shared);
    for (int i = tx; i < kInFlight * kColours; i += plan.pass.tx) {
      if (j + i / kColours >= w.count) break;
      to_rgb_store(rgb, w.n, i % kColours, w.pixel + (j + i / kColours) * w.pixel_step,
                   shared[i * kThreads + ty * plan.pass.tx], image);
    }
    __syncthreads();
  }
}

}  // namespace

cudaError_t epilogue_to_rgb(Type type, const EpilogueShape& shape, const Epilogue& e, const ToRgb& rgb, const void* x,
                            void* y, float* image, cudaStream_t stream) {
  return with_type(type, [&](auto t) {
    using T = decltype(t);
    constexpr int kLong = vector_length<T>();
    const ToRgbPlan plan = plan_to_rgb(shape, kLong, e, rgb, x, y);
    if (plan.pass.blocks == 0) return cudaSuccess;
    if (plan.pass.blocks > kMostBlocks) return cudaErrorInvalidConfiguration;
    const dim3 threads(plan.pass.tx, plan.pass.ty);
    const auto blocks = static_cast<unsigned>(plan.pass.blocks);
    const auto launch = [&](auto kernel) {
      kernel<<<blocks, threads, 0, stream>>>(plan, e, rgb, static_cast<const T*>(x), static_cast<T*>(y), image);
    };
    if (plan.pass.vector == kLong) launch(to_rgb_kernel<T, kLong>);
    else launch(to_rgb_kernel<T, 1>);
    return cudaGetLastError();
  });
}

}  // namespace stylegan2_ops
