// The two elementwise passes of fLoRA on a CPU: y = A * (W (B * x)) + b, a different (A, B) per token.
//
//   scale_in : out[t, i] = x[t, i] * (1 + row(t)[beta_offset + i])
//   scale_out: y[t, o]   = y[t, o] * (1 + row(t)[alpha_offset + o]) + bias[o]          (in place)
//
// row(t) = slab + slots[t] * row_width. Slot 0 is the identity and is never read. Where it
// `is_bounded`, what adapters make of y is clamped to finite numbers (`bound` in plain.py says why). Arithmetic is in
// float32 with one rounding at the end. Rows are bfloat16, float16, float32, or int8 with a scale a
// vector (flora/int8.py); activations are any of the three floats, independently. The ops are opaque
// to torch.compile, so they cause no graph break.
//
// Why not Inductor: its CPU gather of rows costs more than the arithmetic that it would fuse.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <cstring>
#include <optional>
#include <vector>

#if defined(__AVX512F__) && defined(__AVX512BF16__)
#include <immintrin.h>
#define FLORA_BF16_VECTORS 1
#endif

namespace {

// Below this many numbers a thread team costs more than it saves.
constexpr int64_t kGrainNumbers = 8192;
constexpr int64_t kTokensAhead = 2;
constexpr int64_t kLineBytes = 64;

template <typename R>
constexpr bool kHasStep = std::is_same_v<R, int8_t>;

// Numbers that a vector of `count` takes in a row, as flora/layout.py has it.
template <typename R>
int64_t vector_width(int64_t count) {
  return (count + (kHasStep<R> ? sizeof(float) : 0) + 31) / 32 * 32;
}

// What one stored number is worth.
template <typename R>
float step_of(const R* vector, int64_t count) {
  float step = 1;
  if constexpr (kHasStep<R>) {
    std::memcpy(&step, vector + vector_width<R>(count) - sizeof(step), sizeof(step));
  }
  return step;
}

// As in plain.py. Not a number becomes the lower bound: the comparison is false for it.
template <typename X>
constexpr float kBound = std::is_same_v<X, c10::Half> ? 0x1p15f : 0x1p100f;

template <typename X>
float bounded(float value) {
  const float above = value > -kBound<X> ? value : -kBound<X>;
  return above < kBound<X> ? above : kBound<X>;
}

// dst[i] = src[i] * (1 + step * gain[i]) + bias[i]; bias may be null. dst may be src.
template <typename X, typename R, bool kBias, bool kBounded>
void scale_span(X* dst, const X* src, const R* gain, float step, const float* bias, int64_t begin,
                int64_t end) {
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) {
    const float value = static_cast<float>(src[i]);
    const float unit = kHasStep<R> ? value * step : value;
    const float scaled = value + unit * static_cast<float>(gain[i]);
    const float shifted = kBias ? scaled + bias[i] : scaled;
    dst[i] = static_cast<X>(kBounded ? bounded<X>(shifted) : shifted);
  }
}

#ifdef FLORA_BF16_VECTORS
inline __m512 load16(const c10::BFloat16* from) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}

inline __m512 load16(const int8_t* from) {
  const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(raw));
}

// The processor's own rounding to bfloat16: a third of the instructions of the portable conversion.
template <typename R, bool kBias, bool kBounded>
int64_t scale_bf16_vectors(c10::BFloat16* dst, const c10::BFloat16* src, const R* gain, float step,
                           const float* bias, int64_t width) {
  const __m512 steps = _mm512_set1_ps(step);
  const __m512 most = _mm512_set1_ps(kBound<c10::BFloat16>);
  const __m512 least = _mm512_set1_ps(-kBound<c10::BFloat16>);
  int64_t i = 0;
  for (; i + 16 <= width; i += 16) {
    const __m512 value = load16(src + i);
    const __m512 unit = kHasStep<R> ? _mm512_mul_ps(value, steps) : value;
    __m512 scaled = _mm512_fmadd_ps(unit, load16(gain + i), value);
    if constexpr (kBias) scaled = _mm512_add_ps(scaled, _mm512_loadu_ps(bias + i));
    // Of an operand that is not a number the instruction gives the second one.
    if constexpr (kBounded) scaled = _mm512_min_ps(_mm512_max_ps(scaled, least), most);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i), (__m256i)_mm512_cvtneps_pbh(scaled));
  }
  return i;
}
#endif

template <typename X, typename R, bool kBias, bool kBounded>
void scale(X* dst, const X* src, const R* gain, const float* bias, int64_t width) {
  const float step = step_of(gain, width);
  int64_t done = 0;
#ifdef FLORA_BF16_VECTORS
  if constexpr (std::is_same_v<X, c10::BFloat16> &&
                (std::is_same_v<R, c10::BFloat16> || kHasStep<R>)) {
    done = scale_bf16_vectors<R, kBias, kBounded>(dst, src, gain, step, bias, width);
  }
#endif
  scale_span<X, R, kBias, kBounded>(dst, src, gain, step, bias, done, width);
}

// Ask for the vector of a token that comes soon. In a decode step every token reads another row, so
// each vector begins with a wait for memory; this takes a third of the scaling's time away. Always
// inline: GCC takes a function that only prefetches for one without effect and drops its calls.
template <typename R>
[[gnu::always_inline]] inline void fetch_ahead(const R* vectors, int64_t row_width, const int32_t* slot_of, int64_t t,
                 int64_t num_tokens, int64_t count) {
  const int64_t ahead = t + kTokensAhead;
  if (ahead >= num_tokens || slot_of[ahead] == 0 || slot_of[ahead] == slot_of[t]) return;
  const auto* vector = reinterpret_cast<const char*>(vectors + slot_of[ahead] * row_width);
  const int64_t bytes = vector_width<R>(count) * sizeof(R);
  for (int64_t at = 0; at < bytes; at += kLineBytes) __builtin_prefetch(vector + at);
}

template <typename Body>
void for_tokens(int64_t num_tokens, int64_t width, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrainNumbers / std::max<int64_t>(1, width));
  at::parallel_for(0, num_tokens, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) body(t);
  });
}

#define FLORA_DISPATCH(X_TYPE, ROW_TYPE, ...)                                                     \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, X_TYPE, "flora", [&] {                \
    using X = scalar_t;                                                                           \
    AT_DISPATCH_FLOATING_TYPES_AND3(                                                              \
        at::kBFloat16, at::kHalf, at::kChar, ROW_TYPE, "flora_row", [&] {                         \
          using R = scalar_t;                                                                     \
          __VA_ARGS__();                                                                          \
        });                                                                                       \
  })

void check_reach(int64_t num_tokens, int64_t width, const at::Tensor& slab, const at::Tensor& slots,
                 int64_t offset) {
  TORCH_CHECK(slots.size(0) >= num_tokens, "flora: more tokens than slot indices");
  const bool is_int8 = slab.scalar_type() == at::kChar;
  const int64_t end = offset + (is_int8 ? vector_width<int8_t>(width) : width);
  TORCH_CHECK(end <= slab.size(1), "flora: features beyond the end of a row");
}

// x: [num_tokens, in]; slab: [num_slots + 1, row_width]; slots: int32 [>= num_tokens].
at::Tensor scale_in(const at::Tensor& x, const at::Tensor& slab, const at::Tensor& slots,
                    int64_t beta_offset) {
  const int64_t num_tokens = x.size(0), width = x.size(1), x_stride = x.stride(0);
  const int64_t row_width = slab.stride(0);
  check_reach(num_tokens, width, slab, slots, beta_offset);
  TORCH_CHECK(x.stride(1) == 1, "flora: activations must be contiguous along features");
  at::Tensor out = at::empty({num_tokens, width}, x.options());
  const int32_t* slot_of = slots.const_data_ptr<int32_t>();
  FLORA_DISPATCH(x.scalar_type(), slab.scalar_type(), [&] {
    const X* src = x.const_data_ptr<X>();
    const R* rows = slab.const_data_ptr<R>() + beta_offset;
    X* dst = out.mutable_data_ptr<X>();
    for_tokens(num_tokens, width, [&](int64_t t) {
      const X* from = src + t * x_stride;
      fetch_ahead(rows, row_width, slot_of, t, num_tokens, width);
      if (slot_of[t] == 0) {
        std::copy(from, from + width, dst + t * width);
      } else {
        scale<X, R, false, false>(dst + t * width, from, rows + slot_of[t] * row_width, nullptr, width);
      }
    });
  });
  return out;
}

// y = A * y + b, in place; shift may be null.
template <typename X, typename R, bool kBounded>
void scale_tokens(X* dst, const R* rows, int64_t row_width, const int32_t* slot_of,
                  const float* shift, int64_t num_tokens, int64_t width) {
  for_tokens(num_tokens, width, [&](int64_t t) {
    X* at = dst + t * width;
    fetch_ahead(rows, row_width, slot_of, t, num_tokens, width);
    const R* gain = rows + slot_of[t] * row_width;
    if (shift != nullptr) {
      scale<X, R, true, kBounded>(at, at, gain, shift, width);
    } else if (slot_of[t] != 0) {
      scale<X, R, false, kBounded>(at, at, gain, nullptr, width);
    }
  });
}

// What further pairs have added comes after the scaling, and so does its clamping.
void bound_tokens(at::Tensor& y) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, y.scalar_type(), "flora", [&] {
    scalar_t* at = y.mutable_data_ptr<scalar_t>();
    const int64_t width = y.size(1);
    for_tokens(y.size(0), width, [&](int64_t t) {
      for (int64_t i = t * width; i < (t + 1) * width; ++i) {
        at[i] = static_cast<scalar_t>(bounded<scalar_t>(static_cast<float>(at[i])));
      }
    });
  });
}

// y: [num_tokens, out], scaled in place. extra_rows: int32 [num_groups] on the host, the number of
// further pairs that this step's tokens have on each group; nonzero calls flora::add_pairs (defined
// in plain.py), which needs the base model's product a second time.
void scale_out(at::Tensor& y, const at::Tensor& x, const at::Tensor& slab, const at::Tensor& slots,
               const std::optional<at::Tensor>& bias, const at::Tensor& extra_rows,
               int64_t alpha_offset, bool is_bounded, int64_t state, int64_t group) {
  const int64_t num_tokens = y.size(0), width = y.size(1), row_width = slab.stride(0);
  check_reach(num_tokens, width, slab, slots, alpha_offset);
  TORCH_CHECK(y.is_contiguous(), "flora: the product must be contiguous");
  const float* shift = bias ? bias->const_data_ptr<float>() : nullptr;
  const int32_t* slot_of = slots.const_data_ptr<int32_t>();
  const bool has_more = extra_rows.const_data_ptr<int32_t>()[group] != 0;
  FLORA_DISPATCH(y.scalar_type(), slab.scalar_type(), [&] {
    X* dst = y.mutable_data_ptr<X>();
    const R* rows = slab.const_data_ptr<R>() + alpha_offset;
    if (is_bounded && !has_more) {
      scale_tokens<X, R, true>(dst, rows, row_width, slot_of, shift, num_tokens, width);
    } else {
      scale_tokens<X, R, false>(dst, rows, row_width, slot_of, shift, num_tokens, width);
    }
  });
  if (!has_more) return;
  static auto add_pairs = c10::Dispatcher::singleton()
                              .findSchemaOrThrow("flora::add_pairs", "")
                              .typed<void(at::Tensor&, const at::Tensor&, int64_t, int64_t)>();
  add_pairs.call(y, x, state, group);
  if (is_bounded) bound_tokens(y);
}

// What `linear` needs of one layer; `product` is the handle that vLLM's oneDNN product takes.
struct Layer {
  at::Tensor slab, slots, extra_rows, product;
  std::optional<at::Tensor> bias;
  int64_t beta_offset, alpha_offset, out_features;
  bool is_bounded;
  int64_t state, group;
};

std::vector<Layer>& layers() {
  static std::vector<Layer> bound;
  return bound;
}

int64_t bind(const at::Tensor& slab, const at::Tensor& slots, const at::Tensor& extra_rows,
             const at::Tensor& product, const std::optional<at::Tensor>& bias, int64_t beta_offset,
             int64_t alpha_offset, int64_t out_features, bool is_bounded, int64_t state,
             int64_t group) {
  layers().push_back({slab, slots, extra_rows, product, bias, beta_offset, alpha_offset,
                      out_features, is_bounded, state, group});
  return static_cast<int64_t>(layers().size()) - 1;
}

// A whole layer in one call, where the base's product is vLLM's oneDNN one: in a decode step of a
// small model the calls cost more than the arithmetic. x: [num_tokens, in] -> [num_tokens, out].
at::Tensor linear(const at::Tensor& x, int64_t layer, int64_t out_features) {
  const Layer& own = layers().at(layer);
  TORCH_CHECK(out_features == own.out_features, "flora: layer ", layer, " is another layer");
  at::Tensor y = at::empty({x.size(0), out_features}, x.options());
  static auto product = c10::Dispatcher::singleton().findSchemaOrThrow("_C::onednn_mm", "");
  torch::jit::Stack stack{y, scale_in(x, own.slab, own.slots, own.beta_offset), c10::IValue(),
                          own.product};
  product.callBoxed(stack);
  scale_out(y, x, own.slab, own.slots, own.bias, own.extra_rows, own.alpha_offset,
            own.is_bounded, own.state, own.group);
  return y;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(flora, m) {
  m.def(
      "bind(Tensor slab, Tensor slots, Tensor extra_rows, Tensor product, Tensor? bias, "
      "int beta_offset, int alpha_offset, int out_features, bool is_bounded, int state, int group) "
      "-> int");
  m.def("linear(Tensor x, int layer, int out_features) -> Tensor");
  m.def("scale_in(Tensor x, Tensor slab, Tensor slots, int beta_offset) -> Tensor");
  m.def(
      "scale_out(Tensor(a!) y, Tensor x, Tensor slab, Tensor slots, Tensor? bias, Tensor extra_rows, "
      "int alpha_offset, bool is_bounded, int state, int group) -> ()");
}

TORCH_LIBRARY_IMPL(flora, CPU, m) {
  m.impl("bind", &bind);
  m.impl("linear", &linear);
  m.impl("scale_in", &scale_in);
  m.impl("scale_out", &scale_out);
}
