// How near the kernels come to the bandwidth of a copy on this GPU, at the layers of a 1024 px generator. No torch:
//   nvcc -std=c++20 -O3 -arch=native -I stylegan2_ops/csrc tests/ops/kernels_bandwidth.cu stylegan2_ops/csrc/*.cu -o kernels_bandwidth
//   ./kernels_bandwidth [batch size, 8]
// Bytes are those that have to move: each input read once, each result written once. Medians of 20 runs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels.h"

using namespace stylegan2_ops;

namespace {

void must(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("%s\n", cudaGetErrorString(error));
  std::exit(2);
}

// Random numbers: zeros can be faster than real data.
template <typename T>
__global__ void fill(T* x, int64_t size) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < size; i += int64_t{gridDim.x} * blockDim.x) {
    uint32_t h = static_cast<uint32_t>(i * 2654435761u) ^ static_cast<uint32_t>(i >> 13);
    h = (h ^ (h >> 15)) * 2246822519u;
    from_float(x[i], static_cast<float>(h >> 8) / (1 << 23) - 1.0f);
  }
}

template <typename T>
struct Buffer {
  T* data = nullptr;
  explicit Buffer(int64_t size) {
    must(cudaMalloc(reinterpret_cast<void**>(&data), size * sizeof(T)));
    fill<<<1024, 256>>>(data, size);
    must(cudaGetLastError());
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(data); }
};

template <typename F>
double seconds(F run) {
  cudaEvent_t begin, end;
  must(cudaEventCreate(&begin));
  must(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 23; ++i) {
    must(cudaEventRecord(begin));
    must(run());
    must(cudaEventRecord(end));
    must(cudaEventSynchronize(end));
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 3) times.push_back(milliseconds);
  }
  must(cudaEventDestroy(begin));
  must(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] / 1e3;
}

double copy_rate = 0;

template <typename F>
void row(const char* what, const char* type, bool planar, int64_t c, int64_t side, double bytes, F run) {
  const double time = seconds(run);
  std::printf("%-18s %-8s %-13s %4d x %4d  %8.1f us  %6.0f GB/s  %3.0f %%\n", what, type,
              planar ? "NCHW" : "channels_last", int(c), int(side), time * 1e6, bytes / time / 1e9,
              100 * bytes / time / copy_rate);
}

FirShape fir_shape(int64_t n, int64_t c, int64_t side, int up, int down, int before, int after, bool planar) {
  FirShape s{};
  s.n = n, s.c = c, s.h = s.w = side, s.taps_h = s.taps_w = 4, s.up = up, s.down = down, s.flip = true;
  s.pad_left = s.pad_top = before;
  s.oh = s.ow = (side * up + before + after - 4) / down + 1;
  s.xn = c * side * side, s.xc = planar ? side * side : 1, s.xh = planar ? side : side * c, s.xw = planar ? 1 : c;
  s.yn = c * s.oh * s.ow, s.yc = planar ? s.oh * s.ow : 1, s.yh = planar ? s.ow : s.ow * c, s.yw = planar ? 1 : c;
  return s;
}

template <typename T>
void measure(Type type, const char* name, int64_t n, int64_t c, int64_t side, bool planar) {
  const int64_t hw = side * side, size = n * c * hw, padded = n * c * (side + 1) * (side + 1);
  Buffer<T> x(padded), grad(size), y(size);
  Buffer<float> scale(n * c), noise(hw), strength(1), bias(c), taps(16);
  const float line[4] = {1, 3, 3, 1};
  float values[16];
  for (int i = 0; i < 16; ++i) values[i] = line[i / 4] * line[i % 4] / 64;
  must(cudaMemcpy(taps.data, values, sizeof values, cudaMemcpyHostToDevice));
  const Epilogue e{scale.data, noise.data, strength.data, bias.data, nullptr, c, 0, 0, 0.2f, 1.4142135f, 256.0f};
  const EpilogueShape shape{n, c, hw, planar};
  const double bytes = sizeof(T);
  const EpiloguePlan plan = plan_epilogue_for(type, shape, e, x.data, y.data, nullptr);
  row("epilogue", name, planar, c, side, 2 * bytes * size + 4 * hw,
      [&] { return epilogue_forward(plan, type, e, x.data, y.data, nullptr); });
  const EpiloguePlan back = plan_epilogue_for(type, shape, e, grad.data, x.data, y.data);
  Buffer<float> partial(3 * n * c * epilogue_chunks(back));
  row("epilogue backward", name, planar, c, side, 3 * bytes * size + 4 * hw, [&] {
    return epilogue_backward(back, type, e, grad.data, x.data, false, false, y.data, partial.data, nullptr);
  });
  const FirShape blur = fir_shape(n, c, side + 1, 1, 1, 1, 1, planar);
  row("blur", name, planar, c, side, bytes * (padded + size),
      [&] { return fir(type, blur, taps.data, nullptr, x.data, y.data, nullptr); });
  row("blur + epilogue", name, planar, c, side, bytes * (padded + size) + 4 * hw,
      [&] { return fir(type, blur, taps.data, &e, x.data, y.data, nullptr); });
  if (!planar) {
    Buffer<float> weight(n * kColours * c), rgb_bias(kColours), skip(n * kColours * hw / 4), image(n * kColours * hw);
    const ToRgb rgb{weight.data, kColours * c, c, rgb_bias.data, skip.data, taps.data, 256.0f, side, side};
    row("epilogue to RGB", name, planar, c, side, 2 * bytes * size + 4 * hw + 4 * 1.25 * n * kColours * hw,
        [&] { return epilogue_to_rgb(type, shape, e, rgb, x.data, y.data, image.data, nullptr); });
  }
  const FirShape up = fir_shape(n, c, side / 2, 2, 1, 2, 1, planar);
  row("up by 2", name, planar, c, side, bytes * size * 1.25,
      [&] { return fir(type, up, taps.data, nullptr, x.data, y.data, nullptr); });
  const FirShape down = fir_shape(n, c, side, 1, 2, 1, 1, planar);
  row("down by 2", name, planar, c, side, bytes * size * 1.25,
      [&] { return fir(type, down, taps.data, nullptr, grad.data, y.data, nullptr); });
}

}  // namespace

int main(int count, char** words) {
  const int64_t n = count > 1 ? std::atoi(words[1]) : 8;
  {
    const int64_t size = int64_t{1} << 30;
    Buffer<float> from(size / 4), to(size / 4);
    copy_rate = 2.0 * size / seconds([&] { return cudaMemcpyAsync(to.data, from.data, size, cudaMemcpyDeviceToDevice); });
    std::printf("copy of 1 GiB: %.0f GB/s, bytes read and written\nbatch %d\n", copy_rate / 1e9, int(n));
  }
  const int64_t layers[4][2] = {{32, 1024}, {64, 512}, {128, 256}, {512, 64}};
  for (const auto& layer : layers) {
    for (const bool planar : {false, true}) {
      measure<float16>(Type::float16, "float16", n, layer[0], layer[1], planar);
      measure<float>(Type::float32, "float32", n, layer[0], layer[1], planar);
    }
  }
  return 0;
}
