// Runs the kernels on a GPU against the same code on the host, over random shapes, in buffers of exactly their size.
//
// No torch, so that compute-sanitizer sees every access and is quick:
//   nvcc -std=c++20 -arch=native -I stylegan2_ops/csrc tests/ops/kernels_device.cu stylegan2_ops/csrc/*.cu -o kernels_device
//   compute-sanitizer --tool memcheck ./kernels_device      (racecheck, synccheck, initcheck)
// Prints how many cases agreed; exit status 1 if one did not, 2 if CUDA failed.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <type_traits>
#include <vector>

#include "kernels.h"

using namespace stylegan2_ops;

namespace {

std::mt19937 random_bits(0);
int failures = 0, cases = 0;

int pick(int first, int last) { return first + static_cast<int>(random_bits() % (last - first + 1)); }
float normal() { return std::normal_distribution<float>()(random_bits); }

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}

// The same numbers on both sides. `offset`: elements behind an aligned address.
template <typename T>
struct Buffer {
  std::vector<T> host;
  T* memory = nullptr;
  T* device = nullptr;
  int offset;

  Buffer(int64_t size, bool random, int offset_ = 0) : host(size + offset_), offset(offset_) {
    for (T& x : host) from_float(x, random ? normal() : NAN);
    must(cudaMalloc(reinterpret_cast<void**>(&memory), (host.size() ? host.size() : 1) * sizeof(T)), "cudaMalloc");
    must(cudaMemcpy(memory, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "copy to the device");
    device = memory + offset;
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(memory); }
  T* on_host() { return host.data() + offset; }

  // Compares what the device has with what the host has.
  void compare(float tolerance, const char* what) {
    std::vector<T> other(host.size());
    must(cudaMemcpy(other.data(), memory, host.size() * sizeof(T), cudaMemcpyDeviceToHost), "copy from the device");
    double error = 0, norm = 1e-30;
    for (size_t i = offset; i < host.size(); ++i) {
      const double a = to_float(other[i]), b = to_float(host[i]);
      error += (a - b) * (a - b);
      norm += b * b;
    }
    ++cases;
    if (!(error <= tolerance * tolerance * norm)) {
      ++failures;
      std::printf("%s, %zu elements: relative difference %g\n", what, host.size(), std::sqrt(error / norm));
    }
  }
};

struct Parts {
  Buffer<float> scale, noise, strength, bias, next;
  Epilogue device{}, host{};

  Parts(int64_t n, int64_t c, int64_t pixels)
      : scale(n * c, true), noise((pick(0, 1) ? n : 1) * pixels, true, pick(0, 3) == 0), strength(1, true),
        bias(c, true), next(n * c, true) {
    const int64_t stride = static_cast<int64_t>(noise.host.size()) - noise.offset > pixels ? pixels : 0;
    const bool with[4] = {pick(0, 3) > 0, pick(0, 3) > 0, pick(0, 3) > 0, pick(0, 1) > 0};
    const float limit = pick(0, 2) ? INFINITY : 1.0f;
    device = {with[0] ? scale.device : nullptr, with[1] ? noise.device : nullptr, with[1] ? strength.device : nullptr,
              with[2] ? bias.device : nullptr, with[3] ? next.device : nullptr, c, c, stride, 0.2f, 1.4142135f, limit};
    host = {with[0] ? scale.on_host() : nullptr, with[1] ? noise.on_host() : nullptr,
            with[1] ? strength.on_host() : nullptr, with[2] ? bias.on_host() : nullptr,
            with[3] ? next.on_host() : nullptr, c, c, stride, 0.2f, 1.4142135f, limit};
  }
};

template <typename T>
void check_epilogue(Type type, float tolerance) {
  const int64_t n = pick(0, 3), c = pick(1, 40), hw = pick(0, 1) ? 16 * pick(1, 200) : pick(1, 3000);
  const EpilogueShape shape{n, c, hw, pick(0, 1) == 0};
  const int offset = pick(0, 3) == 0;
  Parts parts(n, c, hw);
  Buffer<T> x(n * c * hw, true, offset), grad(n * c * hw, true), y(n * c * hw, false, offset), dx(n * c * hw, false);
  const EpiloguePlan plan = plan_epilogue_for(type, shape, parts.device, x.device, y.device, nullptr);
  must(epilogue_forward(plan, type, parts.device, x.device, y.device, nullptr), "epilogue_forward");
  auto every_thread = [](const EpiloguePlan& plan, auto f) {
    for (int64_t block = 0; block < plan.blocks; ++block) {
      for (int i = 0; i < plan.tx * plan.ty; ++i) f(block, i % plan.tx, i / plan.tx);
    }
  };
  // On the host one element at a time: any plan computes the same.
  EpiloguePlan scalar = plan_epilogue(shape, 1, parts.host, nullptr, nullptr, nullptr);
  every_thread(scalar, [&](int64_t block, int tx, int ty) {
    if (scalar.shape.planar) epilogue_forward_thread<T, 1, true>(scalar, parts.host, x.on_host(), y.on_host(), block, tx, ty);
    else epilogue_forward_thread<T, 1, false>(scalar, parts.host, x.on_host(), y.on_host(), block, tx, ty);
  });
  y.compare(tolerance, "epilogue_forward");

  const bool keep_du = pick(0, 2) == 0;
  const EpiloguePlan back = plan_epilogue_for(type, shape, parts.device, grad.device, x.device, dx.device);
  const int64_t chunks = epilogue_chunks(back), size = n * c * chunks;
  Buffer<float> partial(3 * size, false);
  must(epilogue_backward(back, type, parts.device, grad.device, x.device, false, keep_du, dx.device,
                         pick(0, 3) ? partial.device : nullptr, nullptr), "epilogue_backward");
  must(epilogue_backward(back, type, parts.device, grad.device, x.device, false, keep_du, dx.device, partial.device,
                         nullptr), "epilogue_backward");
  std::vector<double> sums(3 * n * c);
  auto add = [&](const Walk& w, const Sums<1>& part) {
    if (w.count == 0) return;
    sums[w.n * c + w.c] += part.bias[0];
    sums[n * c + w.n * c + w.c] += part.scale[0];
    sums[2 * n * c + w.n * c + w.c] += part.strength[0];
  };
  every_thread(scalar, [&](int64_t block, int tx, int ty) {
    if (scalar.shape.planar) {
      add(walk<true>(scalar, block, tx, ty), epilogue_backward_thread<T, 1, true, true>(
          scalar, parts.host, grad.on_host(), x.on_host(), false, keep_du, dx.on_host(), block, tx, ty));
    } else {
      add(walk<false>(scalar, block, tx, ty), epilogue_backward_thread<T, 1, false, true>(
          scalar, parts.host, grad.on_host(), x.on_host(), false, keep_du, dx.on_host(), block, tx, ty));
    }
  });
  dx.compare(tolerance, "epilogue_backward");
  // The partial sums of the device, added up, against those of the host.
  std::vector<float> parts_of_sums(3 * size);
  must(cudaMemcpy(parts_of_sums.data(), partial.memory, parts_of_sums.size() * 4, cudaMemcpyDeviceToHost), "copy");
  double error = 0, norm = 1e-30;
  for (int64_t kind = 0; kind < 3; ++kind) {
    for (int64_t i = 0; i < n * c; ++i) {
      double sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        sum += parts_of_sums[kind * size + (back.shape.planar ? i * chunks + chunk
                                                              : (i / c * chunks + chunk) * c + i % c)];
      }
      error += (sum - sums[kind * n * c + i]) * (sum - sums[kind * n * c + i]);
      norm += sums[kind * n * c + i] * sums[kind * n * c + i];
    }
  }
  ++cases;
  if (!(error <= 1e-8 * norm)) {
    ++failures;
    std::printf("sums of epilogue_backward, n %d c %d hw %d: relative difference %g\n", int(n), int(c), int(hw),
                std::sqrt(error / norm));
  }
}

template <typename T>
void check_fir(Type type, float tolerance) {
  const int factors[5][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {3, 2}};
  FirShape s{};
  const int* factor = factors[pick(0, 4)];
  s.up = factor[0];
  s.down = factor[1];
  const bool four = pick(0, 3) > 0;
  s.taps_h = four ? 4 : pick(1, 6);
  s.taps_w = four ? 4 : pick(1, 6);
  s.n = pick(0, 2);
  s.c = pick(0, 1) ? 8 * pick(1, 4) : pick(1, 5);
  s.h = pick(1, 70);
  s.w = pick(1, 70);
  s.pad_left = pick(-1, 4);
  s.pad_top = pick(-1, 4);
  const int64_t height = s.h * s.up + s.pad_top + pick(0, 4) - s.taps_h, width = s.w * s.up + s.pad_left + pick(0, 4) - s.taps_w;
  if (height < 0 || width < 0) return;
  s.oh = height / s.down + 1;
  s.ow = width / s.down + 1;
  s.flip = pick(0, 1);
  if (pick(0, 1)) {
    s.xn = s.c * s.h * s.w, s.xc = 1, s.xh = s.w * s.c, s.xw = s.c;
    s.yn = s.c * s.oh * s.ow, s.yc = 1, s.yh = s.ow * s.c, s.yw = s.c;
  } else {
    s.xn = s.c * s.h * s.w, s.xc = s.h * s.w, s.xh = s.w, s.xw = 1;
    s.yn = s.c * s.oh * s.ow, s.yc = s.oh * s.ow, s.yh = s.ow, s.yw = 1;
  }
  Buffer<float> taps(s.taps_h * s.taps_w, true);
  if (four && pick(0, 1)) {
    const float line[4] = {1, 3, 3, 1};
    for (int i = 0; i < 16; ++i) taps.host[i] = line[i / 4] * line[i % 4] / 64;
    must(cudaMemcpy(taps.memory, taps.host.data(), 64, cudaMemcpyHostToDevice), "copy");
  }
  const int offset = pick(0, 3) == 0;
  Buffer<T> x(s.n * s.c * s.h * s.w, true, offset), y(s.n * s.c * s.oh * s.ow, false, offset);
  must(fir(type, s, taps.device, nullptr, x.device, y.device, nullptr), "fir");
  FirPlan any = plan_fir(s, 1, x.on_host(), y.on_host(), nullptr);
  any.groups = s.c, any.units = s.ow, any.strips = s.oh, any.threads = s.n * s.c * s.oh * s.ow;
  for (int64_t i = 0; i < any.threads; ++i) fir_any_thread<T>(any, taps.on_host(), x.on_host(), y.on_host(), i);
  y.compare(tolerance, "fir");

  Parts parts(s.n, s.c, s.oh * s.ow);
  const bool fused = four && s.up == 1 && s.down == 1;
  Buffer<T> z(s.n * s.c * s.oh * s.ow, false, offset);
  const cudaError_t result = fir(type, s, taps.device, &parts.device, x.device, z.device, nullptr);
  if (!fused) {
    if (result != cudaErrorInvalidValue) must(cudaErrorUnknown, "fir with an epilogue that it cannot have");
    return;
  }
  must(result, "fir with epilogue");
  const FirPlan plan = plan_fir(s, 1, nullptr, nullptr, &parts.host);
  for (int64_t i = 0; i < plan.threads; ++i) {
    fir4_thread<T, 1, 1, 1, true>(plan, parts.host, taps.on_host(), x.on_host(), z.on_host(), i);
  }
  z.compare(tolerance, "fir with epilogue");
}

template <typename T>
void check_to_rgb(Type type, float tolerance) {
  const int64_t n = pick(0, 3), c = pick(0, 1) ? 8 * pick(1, 64) : pick(1, 300), h = 2 * pick(1, 20), w = 2 * pick(1, 20);
  const EpilogueShape shape{n, c, h * w, false};
  Parts parts(n, c, h * w);
  Buffer<float> weight(n * kColours * c, true), bias(kColours, true), skip(n * kColours * h * w / 4, true), taps(16, true);
  Buffer<float> image(n * kColours * h * w, false);
  Buffer<T> x(n * c * h * w, true, pick(0, 3) == 0), y(n * c * h * w, false);
  const float limit = pick(0, 1) ? INFINITY : 1.0f;
  const bool below = pick(0, 3) > 0;
  const ToRgb device{weight.device, kColours * c, c, bias.device, below ? skip.device : nullptr, taps.device, limit, h, w};
  const ToRgb host{weight.on_host(), kColours * c, c, bias.on_host(), below ? skip.on_host() : nullptr, taps.on_host(),
                   limit, h, w};
  must(epilogue_to_rgb(type, shape, parts.device, device, x.device, y.device, image.device, nullptr), "epilogue_to_rgb");
  for (int64_t sample = 0; sample < n; ++sample) {
    for (int64_t pixel = 0; pixel < h * w; ++pixel) {
      Colours colours{};
      for (int64_t channel = 0; channel < c; ++channel) {
        const Walk walk{(sample * h * w + pixel) * c + channel, 0, pixel, 0, sample, channel, 1, 0};
        const ToRgbColumn<1> column(parts.host, host, sample, channel);
        to_rgb_pixels<T, 1>(parts.host, column, walk, 0, 0, x.on_host(), y.on_host(), colours);
      }
      for (int k = 0; k < kColours; ++k) to_rgb_store(host, sample, k, pixel, colours.sum[k], image.on_host());
    }
  }
  y.compare(tolerance, "epilogue_to_rgb, the layer");
  image.compare(1e-5f, "epilogue_to_rgb, the image");
}

}  // namespace

int main(int count, char** words) {
  const int rounds = count > 1 ? std::atoi(words[1]) : 100;
  for (int i = 0; i < rounds; ++i) {
    check_epilogue<float>(Type::float32, 1e-5f);
    check_epilogue<float16>(Type::float16, 1e-3f);
    check_epilogue<bfloat16>(Type::bfloat16, 1e-2f);
    check_fir<float>(Type::float32, 1e-5f);
    check_fir<float16>(Type::float16, 1e-3f);
    check_fir<bfloat16>(Type::bfloat16, 1e-2f);
    check_to_rgb<float>(Type::float32, 1e-5f);
    check_to_rgb<float16>(Type::float16, 1e-3f);
    check_to_rgb<bfloat16>(Type::bfloat16, 1e-2f);
  }
  must(cudaDeviceSynchronize(), "the kernels");
  std::printf("%d of %d cases agree\n", cases - failures, cases);
  return failures ? 1 : 0;
}
