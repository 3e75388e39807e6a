// The kernels as the CUDA implementation of the operations that stylegan2_ops/*.py declares. Nothing but checks,
// memory and pointers; gradients, shapes without data and the CPU implementation are Python's.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>
#include <optional>
#include <tuple>

#include "kernels.h"

namespace {

using at::Tensor;
using stylegan2_ops::Epilogue;
using stylegan2_ops::EpiloguePlan;
using stylegan2_ops::Type;
using OptionalTensor = std::optional<Tensor>;

Type type_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return Type::float32;
    case at::kHalf:
      return Type::float16;
    case at::kBFloat16:
      return Type::bfloat16;
    default:
      TORCH_CHECK(false, "stylegan2_ops: the kernels take float32, float16 and bfloat16, not ", x.scalar_type());
  }
}

// The layout of the result for an input like x, as `layout` in operators.py has it.
at::MemoryFormat layout_of(const Tensor& x) {
  TORCH_CHECK(x.dim() == 4, "stylegan2_ops: x must be [N, C, H, W]");
  const bool last = x.stride(1) == 1 && !x.is_contiguous();
  return last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// The small tensors as the kernels want them: float32, dense. Holds what it had to convert.
struct Parts {
  Tensor scale, noise, strength, bias, next;
  Epilogue e{};

  Parts(const OptionalTensor& scale_, const OptionalTensor& noise_, const OptionalTensor& strength_,
        const OptionalTensor& bias_, double slope, double gain, std::optional<double> clamp, const Tensor& x,
        int64_t pixels, const OptionalTensor& next_ = {})
      : scale(rows(scale_, x)), noise(dense(noise_, x)), strength(dense(strength_, x)), bias(dense(bias_, x)),
        next(rows(next_, x)) {
    const int64_t n = x.size(0), c = x.size(1);
    for (const Tensor& t : {scale, next}) {
      TORCH_CHECK(!t.defined() || (t.size(0) == n && t.size(1) == c), "stylegan2_ops: scale must be [N, C]");
    }
    TORCH_CHECK(!bias.defined() || bias.numel() == c, "stylegan2_ops: bias must be [C]");
    TORCH_CHECK(noise.defined() == strength.defined(), "stylegan2_ops: noise and strength go together");
    TORCH_CHECK(!noise.defined() || ((noise.size(0) == 1 || noise.size(0) == n) &&
                                     noise.numel() == noise.size(0) * pixels && strength.numel() == 1),
                "stylegan2_ops: noise must be [N or 1, 1, H, W] with one strength");
    e.scale = pointer(scale);
    e.noise = pointer(noise);
    e.strength = pointer(strength);
    e.bias = pointer(bias);
    e.next = pointer(next);
    e.scale_stride = scale.defined() ? scale.stride(0) : 0;
    e.next_stride = next.defined() ? next.stride(0) : 0;
    e.noise_stride = noise.defined() && noise.size(0) > 1 ? pixels : 0;
    e.slope = static_cast<float>(slope);
    e.gain = static_cast<float>(gain);
    e.limit = clamp ? static_cast<float>(*clamp) : std::numeric_limits<float>::infinity();
  }

  static Tensor dense(const OptionalTensor& t, const Tensor& x) {
    if (!t) return Tensor();
    TORCH_CHECK(t->device() == x.device(), "stylegan2_ops: a tensor is on ", t->device(), ", x on ", x.device());
    return t->to(at::kFloat).contiguous();
  }
  // [N, C], dense within a sample: what is cut out of a wider tensor is not copied.
  static Tensor rows(const OptionalTensor& t, const Tensor& x) {
    if (!t || t->scalar_type() != at::kFloat || t->dim() != 2 || t->stride(1) != 1) return dense(t, x);
    TORCH_CHECK(t->device() == x.device(), "stylegan2_ops: a tensor is on ", t->device(), ", x on ", x.device());
    return *t;
  }
  static const float* pointer(const Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; }
};

stylegan2_ops::EpilogueShape shape_of(const Tensor& x) {
  return {x.size(0), x.size(1), x.size(2) * x.size(3), layout_of(x) == at::MemoryFormat::Contiguous};
}

Tensor epilogue(const Tensor& x_, const OptionalTensor& scale, const OptionalTensor& noise,
                const OptionalTensor& strength, const OptionalTensor& bias, double slope, double gain,
                std::optional<double> clamp, const OptionalTensor& next) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const Tensor x = x_.contiguous(layout_of(x_));
  const auto shape = shape_of(x);
  const Parts parts(scale, noise, strength, bias, slope, gain, clamp, x, shape.hw, next);
  Tensor y = at::empty_like(x, layout_of(x));
  const Type type = type_of(x);
  const auto plan = plan_epilogue_for(type, shape, parts.e, x.const_data_ptr(), y.data_ptr(), nullptr);
  C10_CUDA_CHECK(epilogue_forward(plan, type, parts.e, x.const_data_ptr(), y.mutable_data_ptr(),
                                  c10::cuda::getCurrentCUDAStream()));
  return y;
}

// Runs the backward kernel; `partial`, if asked for, becomes [3, N, C, chunks] or [3, N, chunks, C].
Tensor backward_pass(const Tensor& grad_, const Tensor& saved_, const Parts& parts, bool saved_is_output, bool keep_du,
                     bool want_sums, Tensor& partial, int64_t& chunk_axis) {
  TORCH_CHECK(grad_.sizes() == saved_.sizes() && grad_.scalar_type() == saved_.scalar_type() &&
                  grad_.device() == saved_.device(),
              "stylegan2_ops: the gradient is not like the result");
  const auto layout = layout_of(saved_);
  const Tensor saved = saved_.contiguous(layout), grad = grad_.contiguous(layout);
  Tensor dx = at::empty_like(saved, layout);
  const Type type = type_of(saved);
  const auto plan = plan_epilogue_for(type, shape_of(saved), parts.e, grad.const_data_ptr(), saved.const_data_ptr(),
                                      dx.data_ptr());
  float* sums = nullptr;
  if (want_sums) {
    const int64_t n = saved.size(0), c = saved.size(1), chunks = epilogue_chunks(plan);
    const auto options = saved.options().dtype(at::kFloat).memory_format(at::MemoryFormat::Contiguous);
    partial = plan.shape.planar ? at::empty({3, n, c, chunks}, options) : at::empty({3, n, chunks, c}, options);
    chunk_axis = plan.shape.planar ? 2 : 1;  // of one of the three
    sums = partial.mutable_data_ptr<float>();
  }
  C10_CUDA_CHECK(epilogue_backward(plan, type, parts.e, grad.const_data_ptr(), saved.const_data_ptr(), saved_is_output,
                                   keep_du, dx.mutable_data_ptr(), sums, c10::cuda::getCurrentCUDAStream()));
  return dx;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> epilogue_backward_op(
    const Tensor& grad, const Tensor& saved, const OptionalTensor& scale, const OptionalTensor& noise,
    const OptionalTensor& strength, const OptionalTensor& bias, double slope, double gain, std::optional<double> clamp,
    bool saved_is_output, bool want_scale, bool want_strength, bool want_bias) {
  const c10::cuda::CUDAGuard guard(saved.device());
  const Parts parts(scale, noise, strength, bias, slope, gain, clamp, saved, saved.size(2) * saved.size(3));
  const bool want = want_scale || want_strength || want_bias;
  Tensor partial;
  int64_t chunks = 0;
  Tensor dx = backward_pass(grad, saved, parts, saved_is_output, /*keep_du=*/false, want, partial, chunks);
  const auto none = at::empty({0}, dx.options().dtype(at::kFloat).memory_format(at::MemoryFormat::Contiguous));
  return {dx, want_scale ? partial[1].sum(chunks) : none, want_strength ? partial[2].sum().reshape({1}) : none,
          want_bias ? partial[0].sum(at::IntArrayRef({0, chunks})) : none};
}

Tensor epilogue_slope(const Tensor& grad, const Tensor& saved, const OptionalTensor& scale,
                      const OptionalTensor& noise, const OptionalTensor& strength, const OptionalTensor& bias,
                      double slope, double gain, std::optional<double> clamp, bool saved_is_output) {
  const c10::cuda::CUDAGuard guard(saved.device());
  const Parts parts(scale, noise, strength, bias, slope, gain, clamp, saved, saved.size(2) * saved.size(3));
  Tensor partial;
  int64_t chunks = 0;
  return backward_pass(grad, saved, parts, saved_is_output, /*keep_du=*/true, false, partial, chunks);
}

// Everything that upfirdn2d needs but the epilogue: checks, the result, the shapes.
struct Filter {
  Tensor x, taps, y;
  stylegan2_ops::FirShape shape;

  Filter(const Tensor& x_, const Tensor& taps_, int64_t up, int64_t down, int64_t left, int64_t right, int64_t top,
         int64_t bottom, bool flip)
      : x(x_), taps(taps_.to(at::kFloat).contiguous()) {
    TORCH_CHECK(x.dim() == 4 && taps.dim() == 2, "stylegan2_ops: x must be [N, C, H, W], the kernel [kh, kw]");
    TORCH_CHECK(taps.device() == x.device(), "stylegan2_ops: the kernel is on ", taps.device(), ", x on ", x.device());
    TORCH_CHECK(up >= 1 && down >= 1, "stylegan2_ops: up and down must be at least 1");
    const int64_t height = x.size(2) * up + top + bottom - taps.size(0);
    const int64_t width = x.size(3) * up + left + right - taps.size(1);
    TORCH_CHECK(height >= 0 && width >= 0, "stylegan2_ops: the kernel is larger than the padded image");
    auto small = [](int64_t value) {
      TORCH_CHECK(value == static_cast<int>(value), "stylegan2_ops: ", value, " is too large");
      return static_cast<int>(value);
    };
    const int numbers[] = {small(taps.size(0)), small(taps.size(1)), small(up), small(down), small(left), small(top)};
    y = at::empty({x.size(0), x.size(1), height / down + 1, width / down + 1}, x.options(), layout_of(x));
    shape = {x.size(0), x.size(1), x.size(2), x.size(3), y.size(2), y.size(3),
             x.stride(0), x.stride(1), x.stride(2), x.stride(3), y.stride(0), y.stride(1), y.stride(2), y.stride(3),
             numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], flip};
  }

  Tensor run(const Epilogue* e) {
    C10_CUDA_CHECK(stylegan2_ops::fir(type_of(x), shape, taps.const_data_ptr<float>(), e, x.const_data_ptr(),
                                      y.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream()));
    return y;
  }
};

Tensor upfirdn2d(const Tensor& x, const Tensor& kernel, int64_t up, int64_t down, int64_t left, int64_t right,
                 int64_t top, int64_t bottom, bool flip) {
  const c10::cuda::CUDAGuard guard(x.device());
  return Filter(x, kernel, up, down, left, right, top, bottom, flip).run(nullptr);
}

Tensor blur_epilogue(const Tensor& x, const Tensor& kernel, int64_t left, int64_t right, int64_t top, int64_t bottom,
                     const OptionalTensor& scale, const OptionalTensor& noise, const OptionalTensor& strength,
                     const OptionalTensor& bias, double slope, double gain, std::optional<double> clamp,
                     const OptionalTensor& next) {
  const c10::cuda::CUDAGuard guard(x.device());
  Filter filter(x, kernel, 1, 1, left, right, top, bottom, /*flip=*/true);
  const Parts parts(scale, noise, strength, bias, slope, gain, clamp, x, filter.y.size(2) * filter.y.size(3), next);
  return filter.run(&parts.e);
}

std::tuple<Tensor, Tensor> epilogue_to_rgb_op(const Tensor& x_, const OptionalTensor& scale,
                                              const OptionalTensor& noise, const OptionalTensor& strength,
                                              const OptionalTensor& bias, double slope, double gain,
                                              std::optional<double> clamp, const OptionalTensor& next, bool keep,
                                              const Tensor& weight_, const Tensor& rgb_bias_,
                                              std::optional<double> rgb_clamp, const OptionalTensor& skip_,
                                              const Tensor& taps_) {
  const c10::cuda::CUDAGuard guard(x_.device());
  TORCH_CHECK(x_.dim() == 4, "stylegan2_ops: x must be [N, C, H, W]");
  const Tensor x = x_.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  const Parts parts(scale, noise, strength, bias, slope, gain, clamp, x, h * w, next);
  const bool wide = weight_.scalar_type() == at::kFloat && weight_.dim() == 3 && weight_.stride(2) == 1;
  const Tensor weight = wide ? weight_ : Parts::dense(weight_, x), rgb_bias = Parts::dense(rgb_bias_, x);
  const Tensor skip = Parts::dense(skip_, x), taps = Parts::dense(taps_, x);
  TORCH_CHECK(weight.dim() == 3 && weight.size(0) == n && weight.size(1) == stylegan2_ops::kColours &&
                  weight.size(2) == c && rgb_bias.numel() == stylegan2_ops::kColours && taps.numel() == 16,
              "stylegan2_ops: the weight must be [N, 3, C], its bias [3], the kernel [4, 4]");
  TORCH_CHECK(!skip.defined() || (skip.dim() == 4 && h % 2 == 0 && w % 2 == 0 && skip.size(2) == h / 2 &&
                                  skip.size(3) == w / 2 && skip.size(0) == n && skip.size(1) == weight.size(1)),
              "stylegan2_ops: the image below must be [N, 3, H/2, W/2]");
  const auto limit = rgb_clamp ? static_cast<float>(*rgb_clamp) : std::numeric_limits<float>::infinity();
  const stylegan2_ops::ToRgb rgb{Parts::pointer(weight), weight.stride(0), weight.stride(1), Parts::pointer(rgb_bias),
                                 Parts::pointer(skip), Parts::pointer(taps), limit, h, w};
  const auto planar = x.options().dtype(at::kFloat).memory_format(at::MemoryFormat::Contiguous);
  Tensor image = at::empty({n, weight.size(1), h, w}, planar);
  Tensor y = keep ? at::empty_like(x, at::MemoryFormat::ChannelsLast) : at::empty({0}, x.options());
  C10_CUDA_CHECK(epilogue_to_rgb(type_of(x), {n, c, h * w, false}, parts.e, rgb, x.const_data_ptr(),
                                 keep ? y.mutable_data_ptr() : nullptr, image.mutable_data_ptr<float>(),
                                 c10::cuda::getCurrentCUDAStream()));
  return {y, image};
}

}  // namespace

TORCH_LIBRARY_IMPL(stylegan2_ops, CUDA, m) {
  m.impl("epilogue", epilogue);
  m.impl("epilogue_backward", epilogue_backward_op);
  m.impl("epilogue_slope", epilogue_slope);
  m.impl("upfirdn2d", upfirdn2d);
  m.impl("blur_epilogue", blur_epilogue);
  m.impl("epilogue_to_rgb", epilogue_to_rgb_op);
}
