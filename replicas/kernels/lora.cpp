// Additive LoRA over a batch on a CPU: y_t += B (A x_t), each token t with the factors of its slot.
//
// a[m]: [num_slots + 1, 1, max_rank, in], b[m]: [num_slots + 1, 1, max_rank, out] (B transposed, so
// that both are read in the order in which they lie), one of each a member of the group; ranks:
// int32 [num_slots + 1, num_members]. Of a slot only the rows below its rank are read. Arithmetic is
// in float32 with one rounding at the end; where it `is_bounded` the results are finite (`bound` in
// plain.py says why). Tokens in slot 0 are left as they are.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <vector>

namespace {

// As in plain.py. Not a number becomes the lower bound: the comparison is false for it.
template <typename X>
float bounded(float value) {
  constexpr float most = std::is_same_v<X, c10::Half> ? 0x1p15f : 0x1p100f;
  const float above = value > -most ? value : -most;
  return above < most ? above : most;
}

// Rows of a factor that go through together: each number of x, or of the sums, is read once for all.
constexpr int64_t kRowsAtOnce = 4;

// to[k] = rows[k] . x for kRows rows.
template <int64_t kRows, typename X>
void dot_rows(float* to, const X* rows, const X* x, int64_t width) {
  float sums[kRows] = {};
#pragma omp simd reduction(+ : sums[:kRows])
  for (int64_t i = 0; i < width; ++i) {
    const float value = static_cast<float>(x[i]);
    for (int64_t k = 0; k < kRows; ++k) sums[k] += value * static_cast<float>(rows[k * width + i]);
  }
  std::copy(sums, sums + kRows, to);
}

// sums += factors[k] * rows[k] for kRows rows.
template <int64_t kRows, typename X>
void add_rows(float* sums, const X* rows, const float* factors, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    float sum = sums[i];
    for (int64_t k = 0; k < kRows; ++k) sum += factors[k] * static_cast<float>(rows[k * width + i]);
    sums[i] = sum;
  }
}

// One token and one member: y += B (A x).
template <typename X>
void add_member(X* y, const X* x, const X* a, const X* b, int64_t rank, int64_t in, int64_t out,
                bool is_bounded, std::vector<float>& sums) {
  sums.assign(out, 0.0f);
  float factors[kRowsAtOnce];
  int64_t k = 0;
  for (; k + kRowsAtOnce <= rank; k += kRowsAtOnce) {
    dot_rows<kRowsAtOnce>(factors, a + k * in, x, in);
    add_rows<kRowsAtOnce>(sums.data(), b + k * out, factors, out);
  }
  for (; k < rank; ++k) {
    dot_rows<1>(factors, a + k * in, x, in);
    add_rows<1>(sums.data(), b + k * out, factors, out);
  }
  for (int64_t i = 0; i < out; ++i) {
    const float value = static_cast<float>(y[i]) + sums[i];
    y[i] = static_cast<X>(is_bounded ? bounded<X>(value) : value);
  }
}

// y: [num_tokens, out], in place; x: [num_tokens, in]; slots: int32 [>= num_tokens], all on the
// host; `first_member` is where the group's members begin in `ranks`.
void add_lora_host(at::Tensor& y, const at::Tensor& x, const at::Tensor& slots, at::TensorList a,
                   at::TensorList b, const at::Tensor& ranks, int64_t first_member,
                   bool is_bounded) {
  const int64_t num_tokens = std::min(x.size(0), slots.size(0)), in = x.size(1);
  TORCH_CHECK(y.is_contiguous() && x.stride(1) == 1, "flora: activations must be contiguous");
  const int32_t* slot_of = slots.const_data_ptr<int32_t>();
  const int32_t* rank_of = ranks.const_data_ptr<int32_t>() + first_member;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "flora_lora", [&] {
    const scalar_t* from = x.const_data_ptr<scalar_t>();
    scalar_t* to = y.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, num_tokens, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> sums;
      for (int64_t t = begin; t < end; ++t) {
        const int64_t slot = slot_of[t];
        scalar_t* out = to + t * y.size(1);
        for (size_t m = 0; slot != 0 && m < a.size(); ++m) {
          const int64_t width = b[m].size(3);
          const int64_t rank = rank_of[slot * ranks.size(1) + static_cast<int64_t>(m)];
          if (rank != 0) {
            add_member(out, from + t * x.stride(0),
                       a[m].const_data_ptr<scalar_t>() + slot * a[m].stride(0),
                       b[m].const_data_ptr<scalar_t>() + slot * b[m].stride(0), rank, in, width,
                       is_bounded, sums);
          }
          out += width;
        }
      }
    });
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(flora, m) {
  m.def(
      "add_lora_host(Tensor(a!) y, Tensor x, Tensor slots, Tensor[] a, Tensor[] b, Tensor ranks, "
      "int first_member, bool is_bounded) -> ()");
}

TORCH_LIBRARY_IMPL(flora, CPU, m) { m.impl("add_lora_host", &add_lora_host); }
