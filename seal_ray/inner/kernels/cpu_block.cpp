// What lies between a bank's products on a CPU, its adapters' products and its attention of short texts, in float32.
//
// Called with pointers to the numbers of contiguous tensors. A number is written by one thread, from sums whose order
// does not depend on how many threads there are. A NaN stays one.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr long LANES = 16;
#else
constexpr long LANES = 8;
#endif
typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int Ints __attribute__((vector_size(4 * LANES)));
typedef float Eight __attribute__((vector_size(32)));

inline Vec load(const float *from, long count = LANES) {
    Vec v{};
    if (count >= LANES)
        std::memcpy(&v, from, sizeof v);
    else
        std::memcpy(&v, from, sizeof(float) * count);
    return v;
}

inline void store(float *to, Vec v, long count = LANES) {
    if (count >= LANES)
        std::memcpy(to, &v, sizeof v);
    else
        std::memcpy(to, &v, sizeof(float) * count);
}

inline float sum(Vec v) {
    float total = 0;
    for (long i = 0; i < LANES; i++) total += v[i];
    return total;
}

// 2^n e^r with r within half a ln 2; from 88 on it grows no more, below -87 it is as good as 0
inline Vec exponential(Vec x) {
    const Vec low = Vec{} - 87.0f, high = Vec{} + 88.0f;
    x = x < low ? low : x;
    x = x > high ? high : x;
    const Vec n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;  // rounded to a whole number
    const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
    Vec scale;
    std::memcpy(&scale, &power, sizeof scale);
    return p * scale;
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

constexpr long PANEL = 2 * LANES;  // columns of a tile
constexpr long TILE = 6;           // rows of a tile
constexpr long DEPTH = 256;        // of a panel, which the first cache holds
constexpr long ROOM = 32768;       // numbers of all panels, which the second cache holds

struct Matrix {
    const float *at;
    long by_row, by_column;
    Matrix from(long row, long column) const { return {at + row * by_row + column * by_column, by_row, by_column}; }
};

template <int D, int... LOW> inline void exchange(Eight *rows) {
    for (int i = 0; i < 8; i++) {
        if (i & D) continue;
        const Eight a = rows[i], b = rows[i + D];
        rows[i] = __builtin_shufflevector(a, b, LOW...);
        rows[i + D] = __builtin_shufflevector(a, b, (LOW + D)...);
    }
}

inline void transpose(const float *from, long by_row, float *to) {
    Eight rows[8];
    for (int i = 0; i < 8; i++) std::memcpy(&rows[i], from + i * by_row, sizeof(Eight));
    exchange<4, 0, 1, 2, 3, 8, 9, 10, 11>(rows);
    exchange<2, 0, 1, 8, 9, 4, 5, 12, 13>(rows);
    exchange<1, 0, 8, 2, 10, 4, 12, 6, 14>(rows);
    for (int i = 0; i < 8; i++) std::memcpy(to + i * PANEL, &rows[i], sizeof(Eight));
}

// The first columns of b behind each other, filled up with zeros
void pack(Matrix b, long depth, long columns, float *panel) {
    if (columns < PANEL) std::fill(panel, panel + depth * PANEL, 0.0f);
    if (b.by_column == 1) {
        for (long k = 0; k < depth; k++)
            for (long n = 0; n < columns; n += LANES)
                store(panel + k * PANEL + n, load(b.at + k * b.by_row + n, columns - n), columns - n);
        return;
    }
    const long whole_depth = b.by_row == 1 ? depth / 8 * 8 : 0, whole = columns / 8 * 8;
    for (long n = 0; n < whole; n += 8)
        for (long k = 0; k < whole_depth; k += 8) transpose(b.from(k, n).at, b.by_column, panel + k * PANEL + n);
    for (long n = 0; n < columns; n++)
        for (long k = n < whole ? whole_depth : 0; k < depth; k++) panel[k * PANEL + n] = *b.from(k, n).at;
}

inline void put(float *to, Vec v, long count, bool add) { store(to, add ? load(to, count) + v : v, count); }

template <long ROWS>
void tile(long depth, Matrix a, const float *panel, float *c, long stride, long columns, bool add) {
    Vec left[ROWS] = {}, right[ROWS] = {};
    for (long k = 0; k < depth; k++, a.at += a.by_column, panel += PANEL) {
        const Vec first = load(panel), second = load(panel + LANES);
#pragma GCC unroll 6
        for (long r = 0; r < ROWS; r++) {
            left[r] += a.at[r * a.by_row] * first;
            right[r] += a.at[r * a.by_row] * second;
        }
    }
#pragma GCC unroll 6
    for (long r = 0; r < ROWS; r++) {
        put(c + r * stride, left[r], columns, add);
        if (columns > LANES) put(c + r * stride + LANES, right[r], columns - LANES, add);
    }
}

using Tile = void (*)(long, Matrix, const float *, float *, long, long, bool);
constexpr Tile TILES[] = {nullptr, tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};

// Which part of a product of texts is wanted, where a token is a row: columns up to its own, or sums up to its own
enum Part { WHOLE, COLUMNS, SUMS };

// c [rows, columns] becomes a b, or grows by it
void multiply(long rows, long columns, long depth, Matrix a, Matrix b, float *c, long stride, bool add,
              Part part = WHOLE) {
    alignas(64) float panels[ROOM];
    for (long k = 0; k < depth; k += DEPTH) {
        const long deep = std::min(DEPTH, depth - k), wide = ROOM / deep / PANEL * PANEL;
        for (long begin = 0; begin < columns; begin += wide) {
            const long end = std::min(columns, begin + wide);
            for (long n = begin; n < end; n += PANEL)
                pack(b.from(k, n), deep, std::min(PANEL, end - n), panels + (n - begin) * deep);
            for (long m = part == SUMS ? k / TILE * TILE : 0; m < rows; m += TILE) {
                const long stop = part == COLUMNS ? std::min(end, m + TILE) : end;
                const long own = part == SUMS ? std::min(deep, m + TILE - k) : deep;
                for (long n = begin; n < stop; n += PANEL)
                    TILES[std::min(TILE, rows - m)](
                        own, a.from(m, k), panels + (n - begin) * deep, c + m * stride + n, stride,
                        std::min(PANEL, end - n), add || k > 0);
            }
        }
    }
}

struct Block {
    long row, rows, first, last, fresh;  // rows: of each position
};

// Of every position its rows in all blocks, block after block
template <class Work> void each_position(const Block *blocks, long count, long threads, Work work) {
    long last = 0;
    for (long n = 0; n < count; n++) last = std::max(last, blocks[n].last);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
    for (long position = 0; position < last; position++)
        for (const Block *b = blocks; b < blocks + count; b++)
            if (b->first <= position && position < b->last)
                work(*b, position, b->row + (position - b->first) * b->rows);
}

// Every row of scores [length, length] becomes what a token gives to itself and those before it
void share_out(float *scores, long length, float scaling) {
    for (long t = 0; t < length; t++) {
        float *row = scores + t * length;
        const float top = *std::max_element(row, row + t + 1);
        Vec total{};
        for (long i = 0; i <= t; i += LANES) {
            const long count = t + 1 - i;
            store(row + i, exponential((load(row + i, count) - top) * scaling), count);
            total += load(row + i, count);
        }
        const float scale = 1.0f / sum(total);
        for (long i = 0; i <= t; i += LANES) store(row + i, load(row + i, t + 1 - i) * scale, t + 1 - i);
        std::fill(row + t + 1, row + length, 0.0f);
    }
}

// The gradients of what was given become those of the scores
void unshare(const float *share, float *grad, long length, float scaling) {
    for (long t = 0; t < length; t++) {
        const float *own = share + t * length;
        float *row = grad + t * length;
        Vec along{};
        for (long i = 0; i <= t; i += LANES) along += load(own + i, t + 1 - i) * load(row + i, t + 1 - i);
        const float mean = sum(along);
        for (long i = 0; i <= t; i += LANES) {
            const long count = t + 1 - i;
            store(row + i, load(own + i, count) * (load(row + i, count) - mean) * scaling, count);
        }
        std::fill(row + t + 1, row + length, 0.0f);
    }
}

struct Texts {
    long row, length, count;
};

// Of every text in all blocks its query heads that share a key, with where their shares lie
template <class Work>
void each_group(const Texts *blocks, long count, long heads, long groups, long threads, Work work) {
    long share = 0;
    for (const Texts *b = blocks; b < blocks + count; b++) {
        const long square = b->length * b->length;
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
        for (long n = 0; n < b->count * groups; n++) {
            const long text = n / groups, group = n % groups, head = group * (heads / groups);
            work(b->row + text * b->length, b->length, head, group, share + (text * heads + head) * square);
        }
        share += b->count * heads * square;
    }
}

}  // namespace

extern "C" {

// out = weight * s / rms(s) where s = y + x, which is written back to y if there is an x
void normalise(
    float *y, const float *x, const float *weight, float *out, long rows, long width, float eps, long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++) {
        float *own = y + row * width, *to = out + row * width;
        Vec squares{};
        for (long i = 0; i < width; i += LANES) {
            Vec s = load(own + i, width - i);
            if (x) store(own + i, s += load(x + row * width + i, width - i), width - i);
            squares += s * s;
        }
        const float scale = 1.0f / std::sqrt(sum(squares) / width + eps);
        for (long i = 0; i < width; i += LANES)
            store(to + i, load(own + i, width - i) * scale * load(weight + i, width - i), width - i);
    }
}

// dy becomes the gradient of x by way of the norm, and `through`; out is x normalised
void normalise_backward(
    float *dy, const float *x, const float *weight, const float *through, float *out, long rows, long width, float eps,
    long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++) {
        const long at = row * width;
        Vec squares{}, along{};
        for (long i = 0; i < width; i += LANES) {
            const Vec s = load(x + at + i, width - i);
            squares += s * s;
            along += s * load(dy + at + i, width - i) * load(weight + i, width - i);
        }
        const float scale = 1.0f / std::sqrt(sum(squares) / width + eps);
        const float mean = sum(along) * scale / width;
        for (long i = 0; i < width; i += LANES) {
            const long count = width - i;
            const Vec w = load(weight + i, count), unit = load(x + at + i, count) * scale;
            Vec dx = (load(dy + at + i, count) * w - unit * mean) * scale;
            if (through) dx += load(through + at + i, count);
            store(dy + at + i, dx, count);
            store(out + at + i, unit * w, count);
        }
    }
}

void swiglu(const float *gate, const float *up, float *out, long count, long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long i = 0; i < count; i += LANES) {
        const Vec g = load(gate + i, count - i);
        store(out + i, g * sigmoid(g) * load(up + i, count - i), count - i);
    }
}

// gate and up become their gradients, out their product
void swiglu_backward(float *gate, float *up, const float *dy, float *out, long count, long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long i = 0; i < count; i += LANES) {
        const long n = count - i;
        const Vec g = load(gate + i, n), u = load(up + i, n), d = load(dy + i, n), share = sigmoid(g), silu = g * share;
        store(out + i, silu * u, n);
        store(gate + i, d * u * share * (1.0f + g * (1.0f - share)), n);
        store(up + i, d * silu, n);
    }
}

// The pairs (i, i + half) of every head turned by their row's angles, or, going back, their gradients before that
void rotate(const float *x, const float *cos, const float *sin, float *out, long rows, long heads, long half, bool back,
            long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++) {
        const float *c = cos + row * 2 * half, *s = sin + row * 2 * half;
        for (long at = row * heads * 2 * half; at < (row + 1) * heads * 2 * half; at += 2 * half)
            for (long i = 0; i < half; i += LANES) {
                const long n = half - i;
                const Vec a = load(x + at + i, n), b = load(x + at + half + i, n);
                const Vec first = load(s + i, n), second = load(s + half + i, n);
                store(out + at + i, a * load(c + i, n) - b * (back ? -second : first), n);
                store(out + at + half + i, b * load(c + half + i, n) + a * (back ? -first : second), n);
            }
    }
}

// Every position's rows [row, in] times its matrix [in, out]
void rows_by_matrices(
    float *out, long out_stride, const float *rows, long row_stride, const float *matrices, long by_position,
    long by_in, long by_out, long width_in, long width_out, const Block *blocks, long count, bool add, long threads) {
    each_position(blocks, count, threads, [=](const Block &block, long position, long row) {
        multiply(
            block.rows, width_out, width_in, {rows + row * row_stride, row_stride, 1},
            {matrices + position * by_position, by_in, by_out}, out + row * out_stride, out_stride, add);
    });
}

// The products [left, right] of every position's rows, written where its first block is, added afterwards
void rows_by_rows(
    float *grad, long by_position, const float *left, long left_stride, const float *right, long right_stride,
    long width_left, long width_right, const Block *blocks, long count, long threads) {
    each_position(blocks, count, threads, [=](const Block &block, long position, long row) {
        multiply(
            width_left, width_right, block.rows, {left + row * left_stride, 1, left_stride},
            {right + row * right_stride, right_stride, 1}, grad + position * by_position, width_right, !block.fresh);
    });
}

// Causal attention; query and out are [row, head, width], key and value [row, group, width]
void attention(
    const float *query, const float *key, const float *value, float *out, float *shares, long heads, long groups,
    long width, const Texts *blocks, long count, float scaling, long threads) {
    const long q = heads * width, k = groups * width;
    each_group(blocks, count, heads, groups, threads, [=](long row, long length, long head, long group, long at) {
        const Matrix keys{key + row * k + group * width, 1, k}, values{value + row * k + group * width, k, 1};
        for (long h = head; h < head + heads / groups; h++, at += length * length) {
            const long own = row * q + h * width;
            multiply(length, length, width, {query + own, q, 1}, keys, shares + at, length, false, COLUMNS);
            share_out(shares + at, length, scaling);
            multiply(length, width, length, {shares + at, length, 1}, values, out + own, q, false, SUMS);
        }
    });
}

void attention_backward(
    const float *query, const float *key, const float *value, const float *shares, const float *d_out, float *d_query,
    float *d_key, float *d_value, long heads, long groups, long width, const Texts *blocks, long count, float scaling,
    long threads) {
    const long q = heads * width, k = groups * width;
    each_group(blocks, count, heads, groups, threads, [=](long row, long length, long head, long group, long at) {
        const long of_group = row * k + group * width;
        const Matrix keys{key + of_group, k, 1}, values{value + of_group, 1, k};
        std::vector<float> memory(length * length);
        float *const grad = memory.data();
        for (long h = head; h < head + heads / groups; h++, at += length * length) {
            const long own = row * q + h * width;
            const Matrix d_own{d_out + own, q, 1};
            const bool add = h > head;
            multiply(length, width, length, {shares + at, 1, length}, d_own, d_value + of_group, k, add);
            multiply(length, length, width, d_own, values, grad, length, false, COLUMNS);
            unshare(shares + at, grad, length, scaling);
            multiply(length, width, length, {grad, length, 1}, keys, d_query + own, q, false, SUMS);
            multiply(length, width, length, {grad, 1, length}, {query + own, q, 1}, d_key + of_group, k, add);
        }
    });
}

// The losses of rows of logits, which become the losses' gradients by them
void vocabulary_loss(float *logits, const long *targets, float *losses, long rows, long width, long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++) {
        float *own = logits + row * width;
        float top = -std::numeric_limits<float>::infinity();
        Vec tops = Vec{} + top;
        long i = 0;
        for (; i + LANES <= width; i += LANES) tops = load(own + i) > tops ? load(own + i) : tops;
        for (long n = 0; n < LANES; n++) top = std::max(top, tops[n]);
        for (; i < width; i++) top = std::max(top, own[i]);
        const float target = own[targets[row]];
        double total = 0;
        for (long start = 0; start < width; start += 4096) {  // few enough numbers for a sum in 32 bits
            Vec part{};
            for (i = start; i < std::min(width, start + 4096); i += LANES) {
                store(own + i, exponential(load(own + i, width - i) - top), width - i);
                part += load(own + i, width - i);
            }
            total += sum(part);
        }
        const float scale = static_cast<float>(1.0 / total);
        for (i = 0; i < width; i += LANES) store(own + i, load(own + i, width - i) * scale, width - i);
        own[targets[row]] -= 1.0f;
        losses[row] = top + static_cast<float>(std::log(total)) - target;
    }
}

}  // extern "C"
