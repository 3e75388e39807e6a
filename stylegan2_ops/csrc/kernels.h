// The kernels, as functions of pointers and sizes. No torch: a compiler of CUDA alone builds and checks them.
//
// Each starts on `stream`, on the current device, allocates nothing and waits for nothing, so that all can be captured
// into a CUDA graph. Work of size zero starts nothing. The error of the launch is returned.
#pragma once

#include <cuda_runtime_api.h>

#include "epilogue.h"
#include "fir.h"
#include "to_rgb.h"

namespace stylegan2_ops {

enum class Type { float32, float16, bfloat16 };

// Blocks, sums and their places, for tensors of this type at these addresses (null ones are not there).
EpiloguePlan plan_epilogue_for(Type type, const EpilogueShape& shape, const Epilogue& e, const void* a, const void* b,
                               const void* c);

// y = the epilogue of x, both in the layout of the plan.
cudaError_t epilogue_forward(const EpiloguePlan& plan, Type type, const Epilogue& e, const void* x, void* y,
                             cudaStream_t stream);

// dx as in epilogue_backward_thread. partial: null, or three arrays (for bias, scale, strength) of
// n * c * epilogue_chunks(plan) floats, each to be added up as partial_index says.
cudaError_t epilogue_backward(const EpiloguePlan& plan, Type type, const Epilogue& e, const void* grad,
                              const void* saved, bool saved_is_output, bool keep_du, void* dx, float* partial,
                              cudaStream_t stream);

// y = upfirdn2d of x with the taps [taps_h, taps_w] in device memory; `e`, if not null, follows it: only if the taps are 4
// by 4 and up = down = 1, else cudaErrorInvalidValue.
cudaError_t fir(Type type, const FirShape& shape, const float* taps, const Epilogue* e, const void* x, void* y,
                cudaStream_t stream);

// image [N, 3, H, W], float32, and y (null: not wanted) as in to_rgb.h, of an x in channels_last.
cudaError_t epilogue_to_rgb(Type type, const EpilogueShape& shape, const Epilogue& e, const ToRgb& rgb, const void* x,
                            void* y, float* image, cudaStream_t stream);

// Calls f with a value of the element type that `type` names.
template <typename F>
auto with_type(Type type, F f) {
  switch (type) {
    case Type::float16:
      return f(float16());
    case Type::bfloat16:
      return f(bfloat16());
    default:
      return f(float());
  }
}

}  // namespace stylegan2_ops
